"""Dilution: clean images among the protected ones."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor, Labelled
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.owned_images import owned_images


@dataclass(frozen=True)
class Dilution(Countermeasure):
    """Add clean images of the competitor's own to the training images.

    To be read beside `CleanAlone` with the same count: what those images are worth without the others.

    Attributes:
        count: Of added images.
    """

    count: int

    outside_data: ClassVar[bool] = True

    @property
    def clean_images(self) -> int:
        """Count the added images."""
        return self.count

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train by the recipe on both sets as one."""
        both = Labelled(images, labels).joined(owned_images(competitor, self.count))
        return competitor.train(competitor.views(both.images, both.labels))
