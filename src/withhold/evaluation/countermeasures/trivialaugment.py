"""TrivialAugment (Müller and Hutter, arXiv 2103.10158), with Kornia's operations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from kornia.augmentation import ColorJitter
from kornia.augmentation.auto import TrivialAugment as Policy
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches, borrowed_randomness
from withhold.evaluation.countermeasures.countermeasure import Countermeasure

Operation = tuple[str, float, float]
"""Name and range of strengths, as Kornia's policies take them."""

SHEAR = math.degrees(math.atan(0.3)) / 180
"""The papers' shear of 0.3. Kornia multiplies by 180 degrees: a plain 0.3 would be 54 degrees, a shear of 1.4."""

OPERATIONS: Sequence[Operation] = (
    ("auto_contrast", 0, 1),
    ("equalize", 0, 1),
    ("rotate", -30.0, 30.0),
    ("posterize", 4.0, 8.0),
    ("solarize", 0.0, 1.0),
    ("sharpness", 0.1, 1.9),
    ("shear_x", -SHEAR, SHEAR),
    ("shear_y", -SHEAR, SHEAR),
    ("translate_x", -0.3, 0.3),
    ("translate_y", -0.3, 0.3),
)
"""The paper's operations beside the identity and `COLOURS`. Kornia's list posterises to 0 bits too, a black image."""

COLOURS = ("brightness", "contrast", "saturation")
"""As Pillow and the papers define them, by `colour`. Those of Kornia's policies are others: brightness adds instead of
multiplying, up to a black or white image, and contrast has no middle, so that it is brightness."""


@dataclass(frozen=True)
class TrivialAugment(Countermeasure):
    """Change every view by one operation, drawn with its strength (TrivialAugment)."""

    cost: ClassVar[float] = 1.1

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on changed views."""
        policies = trivial_policies()

        def change(pixels: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return changed_one_by_one(pixels, policies, generator), targets

        return competitor.train(ChangedBatches(competitor.views(images, labels), change))


def trivial_policies() -> list[nn.Module]:
    """Make the operations that TrivialAugment picks one of."""
    colours = [colour(name, 0.9) for name in COLOURS]
    return [nn.Identity(), *colours, *(Policy(policy=[[operation]]) for operation in OPERATIONS)]


def colour(name: str, strength: float) -> nn.Module:
    """Make one of `COLOURS`, with a factor drawn for each image from [1 - strength, 1 + strength]."""
    jitter: nn.Module = ColorJitter(**{name: (1 - strength, 1 + strength)}, p=1.0)
    return jitter


def changed_one_by_one(
    images: Tensor, policies: Sequence[nn.Module], generator: torch.Generator, *, count: int = 1
) -> Tensor:
    """Change each image of a batch (b, 3, h, w) in [0, 1] by policies of its own, as the papers do.

    Kornia's policies draw their operations once per batch, so that a whole batch would be, say, solarised.

    Args:
        count: Different policies that each image goes through, in random order.
    """
    order = torch.rand(len(images), len(policies), generator=generator).argsort(1)[:, :count]
    changed = images.clone()
    with borrowed_randomness(generator):
        for chosen in order.unbind(1):
            for number, policy in enumerate(policies):
                alike = chosen == number
                if alike.any():
                    changed[alike] = policy(changed[alike]).clamp(0, 1)
    return changed
