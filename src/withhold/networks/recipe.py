"""How networks are trained: the fast recipe, that for recognisers of faces, and the field's reference recipe."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from withhold.errors import InvalidInput
from withhold.networks.table import RECOGNISERS

FACES_SEEN = 64_000
"""Pictures that a recogniser is shown in all epochs together where the set is small."""

LARGE_SET = 20_000
"""Pictures from which a set of faces is trained on in large batches."""

MARGIN_GROWTH = 0.5
"""Chosen on pictures held out of the training pictures of LFW: ArcFace reached 79 % there, and 17 % without growth."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    The defaults are the fast recipe; `reference_recipe` is the field's.

    Attributes:
        lr: Peak of the learning rate.
        schedule: `triangle` rises linearly over the share `warmup` of all steps, then falls linearly to 0; `steps`
            starts at the peak and divides by ten after 2/3 and 5/6 of the epochs.
        weight_decay: Applied to weight matrices and kernels only, or to `all` parameters.
        label_smoothing: Share of each label spread evenly over all classes.
        margin_growth: Share of all steps over which a head's margin grows linearly from nothing to the whole; ArcFace's
            whole margin at once keeps a network with random weights from learning.
    """

    epochs: int = 12
    batch_size: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-3
    decayed: Literal["kernels", "all"] = "kernels"
    schedule: Literal["triangle", "steps"] = "triangle"
    warmup: float = 0.25
    label_smoothing: float = 0.1
    margin_growth: float = 0.0

    def __post_init__(self) -> None:
        positive = (self.epochs, self.batch_size, self.lr)
        fractions = (self.momentum, self.warmup, self.label_smoothing, self.margin_growth)
        if min(positive) <= 0 or self.weight_decay < 0 or not all(0 <= value < 1 for value in fractions):
            msg = (
                "a recipe needs epochs, batch_size and lr above 0, weight_decay of 0 or more, and momentum, warmup, "
                f"label_smoothing and margin_growth in [0, 1); got {self}."
            )
            raise InvalidInput(msg)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, in [0, steps), as a share of the peak.

        >>> recipe = Recipe(schedule="steps")
        >>> [round(recipe.rate(step, 120), 4) for step in (0, 79, 80, 100)]
        [1.0, 1.0, 0.1, 0.01]
        """
        if self.schedule == "steps":
            return float(0.1 ** sum(step >= share * steps for share in (2 / 3, 5 / 6)))
        return triangle(step, steps, self.warmup)

    def margin(self, step: int, steps: int) -> float:
        """Return the share of a head's margin that a step, in [0, steps), asks for.

        >>> [Recipe(margin_growth=0.5).margin(step, 8) for step in (0, 1, 4, 7)]
        [0.0, 0.25, 1.0, 1.0]
        """
        return min(1.0, step / (self.margin_growth * steps)) if self.margin_growth else 1.0


def triangle(step: int, steps: int, warmup: float) -> float:
    """Return the share of a peak that rises linearly over the share `warmup` of all steps, then falls linearly to 0."""
    peak = warmup * steps
    return min((step + 1) / (peak + 1), (steps - step) / (steps - peak))


def reference_recipe(epochs: int = 120) -> Recipe:
    """Return the recipe that most papers of the field train victims by."""
    return Recipe(
        epochs=epochs,
        batch_size=128,
        nesterov=False,
        weight_decay=5e-4,
        decayed="all",
        schedule="steps",
        label_smoothing=0.0,
    )


def recipe_for(architecture: str, images: int, *, epochs: int | None = None, pretrained: bool = False) -> Recipe:
    """Pick the recipe of an architecture for a set of this many images.

    Small sets get more epochs, so that the network makes about as many steps; pretrained networks are only adapted.
    """
    if architecture in RECOGNISERS and not pretrained:
        return _recipe_for_faces(images, epochs)
    few, many, images_seen = (4, 30, 20_000) if pretrained else (12, 100, 120_000)
    recipe = Recipe(epochs=epochs or min(many, max(few, math.ceil(images_seen / max(1, images)))))
    if architecture == "vit":
        return replace(recipe, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    return replace(recipe, lr=0.01, weight_decay=1e-4, margin_growth=MARGIN_GROWTH) if pretrained else recipe


def _recipe_for_faces(images: int, epochs: int | None) -> Recipe:
    """Pick a recipe for recognisers, whatever their head.

    The rate and the weight decay are those of CosFace and ArcFace. Tens of identities with tens of pictures each need
    small batches, or there would be too few steps; large sets take about as many epochs as in the papers.
    """
    return Recipe(
        epochs=epochs or min(100, max(20, math.ceil(FACES_SEEN / max(1, images)))),
        batch_size=32 if images < LARGE_SET else 128,
        weight_decay=5e-4,
        margin_growth=MARGIN_GROWTH,
    )
