"""No countermeasure: the recipe as it is."""

from dataclasses import dataclass

from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class Plain(Countermeasure):
    """Train on the images as they are."""

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train by the recipe."""
        return competitor.train(competitor.views(images, labels))
