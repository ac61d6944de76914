"""Mixup (Zhang et al., arXiv 1710.09412)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches, borrowed_randomness, shares
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class Mixup(Countermeasure):
    """Average the images of each batch, and their labels, with others of the batch (mixup).

    Attributes:
        alpha: Each batch's share is drawn from Beta(alpha, alpha); 1 is uniform.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        refuse_beta(self.alpha)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on averages."""

        def change(pixels: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return self.mix(pixels, shares(targets, competitor.classes), generator)

        return competitor.train(ChangedBatches(competitor.views(images, labels), change))

    def mix(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Average a batch, and its shares (b, classes), with a permutation of it: `share x + (1 - share) x[other]`."""
        share = drawn_share(self.alpha, generator)
        other = torch.randperm(len(images), generator=generator)
        return torch.lerp(images[other], images, share), torch.lerp(targets[other], targets, share)


def drawn_share(alpha: float, generator: torch.Generator) -> float:
    """Draw a number in [0, 1] from Beta(alpha, alpha)."""
    with borrowed_randomness(generator):
        return float(torch.distributions.Beta(alpha, alpha).sample())


def refuse_beta(alpha: float) -> None:
    """Raise `InvalidInput` if Beta(alpha, alpha) does not exist."""
    if not alpha > 0:
        msg = f"mixing needs an alpha above 0; got {alpha}."
        raise InvalidInput(msg)
