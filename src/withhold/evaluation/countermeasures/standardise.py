"""Standardised colours, which take away what a perturbation changes in brightness, contrast and tint."""

from dataclasses import dataclass

from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.deployed import Behind

DEVIATIONS = 3
"""Deviations from the mean that still fit into [0, 1]; what lies farther out is clipped."""

_SMALLEST_DEVIATION = 1e-3
"""Less than one level: only an image of a single colour falls below it."""


@dataclass(frozen=True)
class Standardise(Countermeasure):
    """Give every channel of every image the same mean and deviation, in training and in use."""

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on standardised views."""
        data = ChangedBatches(
            competitor.views(images, labels), lambda pixels, targets, _: (standardised(pixels), targets)
        )
        return competitor.train(data, deploy=lambda network: Behind(network, standardised))


def standardised(images: Tensor) -> Tensor:
    """Bring each channel of images (b, 3, h, w) to mean 1/2 and deviation 1/6, clipped to [0, 1]."""
    mean = images.mean((2, 3), keepdim=True)
    deviation = images.std((2, 3), keepdim=True, correction=0).clamp_min(_SMALLEST_DEVIATION)
    return (0.5 + (images - mean) / deviation / (2 * DEVIATIONS)).clamp(0, 1)
