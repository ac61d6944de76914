"""Cutout (DeVries and Taylor, arXiv 1708.04552)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class Cutout(Countermeasure):
    """Cover one square at random in every view of a training image.

    Attributes:
        side: Of the square, as a share of the image's side: 1/2 is 16 px at 32 px, the paper's choice for CIFAR-10.
    """

    side: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.side <= 1:
            msg = f"cutout needs a side in (0, 1], a share of the image's side; got {self.side}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on covered views."""
        return competitor.train(ChangedBatches(competitor.views(images, labels), self.change))

    def change(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cover a square around a pixel drawn anywhere, so that it may reach over the edge.

        It takes the batch's mean colour: the paper covers with zeros after subtracting the set's mean.
        """
        count, _, height, width = images.shape
        centre = torch.rand(2, count, 1, generator=generator)
        rows = _covered(centre[0], height, round(self.side * height))
        columns = _covered(centre[1], width, round(self.side * width))
        hole = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(hole, images.mean((0, 2, 3), keepdim=True), images), labels


def _covered(centre: Tensor, size: int, side: int) -> Tensor:
    """Mark the pixels (b, size) of one axis that a hole with its centre (b, 1), in [0, 1), covers."""
    first = (centre * size).long() - side // 2
    pixels = torch.arange(size)
    return (pixels >= first) & (pixels < first + side)
