"""RandAugment (Cubuk et al., arXiv 1909.13719), with Kornia's operations."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from kornia.augmentation.auto import RandAugment as Policy
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.trivialaugment import COLOURS, SHEAR, Operation, changed_one_by_one, colour

OPERATIONS: tuple[Operation, ...] = (
    ("auto_contrast", 0, 1),
    ("equalize", 0, 1),
    ("invert", 0, 1),
    ("rotate", -30.0, 30.0),
    ("posterize", 4.0, 8.0),
    ("solarize", 0.0, 1.0),
    ("solarize_add", 0.0, 0.43),
    ("sharpness", 0.1, 1.9),
    ("shear_x", -SHEAR, SHEAR),
    ("shear_y", -SHEAR, SHEAR),
    ("translate_x", -0.1, 0.1),
    ("translate_y", -0.1, 0.1),
)
"""Kornia's list, with the paper's shear; beside them `COLOURS`."""

_END = 30
"""The strength at which each operation is at the end of its range."""


@dataclass(frozen=True)
class RandAugment(Countermeasure):
    """Change every view by operations drawn at random, all of one strength (RandAugment).

    Attributes:
        operations: Different ones for each view.
        strength: From 1 to 29; 30 is the end of each operation's range. Colours change by up to as much, either way.
    """

    operations: int = 2
    strength: int = 10

    cost: ClassVar[float] = 1.2

    def __post_init__(self) -> None:
        if not (1 <= self.operations <= len(OPERATIONS + COLOURS) and 1 <= self.strength < _END):
            msg = (
                f"RandAugment needs 1 to {len(OPERATIONS + COLOURS)} operations and a strength from 1 to {_END - 1}; "
                f"got {self.operations} operations of strength {self.strength}."
            )
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on changed views."""
        policies = self.policies()

        def change(pixels: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return changed_one_by_one(pixels, policies, generator, count=self.operations), targets

        return competitor.train(ChangedBatches(competitor.views(images, labels), change))

    def policies(self) -> list[nn.Module]:
        """Make the operations to pick from."""
        colours = [colour(name, 0.9 * self.strength / _END) for name in COLOURS]
        return [*colours, *(Policy(n=1, m=self.strength, policy=[[operation]]) for operation in OPERATIONS)]
