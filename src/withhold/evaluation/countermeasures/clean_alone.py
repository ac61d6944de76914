"""The control of dilution: what a competitor's own clean images give without the protected ones."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor, Labelled
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.owned_images import owned_images


@dataclass(frozen=True)
class CleanAlone(Countermeasure):
    """Leave the training images alone and train on clean images of the competitor's own only.

    Attributes:
        count: Of clean images.
    """

    count: int

    outside_data: ClassVar[bool] = True

    @property
    def clean_images(self) -> int:
        """Count the images trained on."""
        return self.count

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:  # noqa: ARG002 - a control
        """Train by the recipe, for as many steps as the whole set would take."""
        repeated = repeat(owned_images(competitor, self.count), len(labels))
        return competitor.train(competitor.views(repeated.images, repeated.labels))


def repeat(few: Labelled, count: int) -> Labelled:
    """Go through a set again and again until there are `count` images, or once if it has more.

    Repeating within an epoch, not adding epochs, keeps the number of evaluations and the schedule of the recipe.
    """
    return few.take(torch.arange(max(count, len(few))) % len(few))
