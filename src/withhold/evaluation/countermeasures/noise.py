"""Random noise in training: the least that may drown a small perturbation."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class Noise(Countermeasure):
    """Add fresh Gaussian noise to every view of a training image.

    Attributes:
        deviation: As a fraction of the pixel range.
    """

    deviation: float

    def __post_init__(self) -> None:
        if not self.deviation > 0:
            msg = f"noise needs a deviation above 0, a fraction of the pixel range; got {self.deviation}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on noisy views."""
        return competitor.train(ChangedBatches(competitor.views(images, labels), self.change))

    def change(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add noise, clipped to the valid range."""
        noise = torch.randn(images.shape, generator=generator)
        return (images + self.deviation * noise).clamp(0, 1), labels
