"""The seam between a run and the mathematics: what a run hands to crafting and what it gets back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from withhold.data.faces import Face
from withhold.data.pixels import Picture

Shown = int | tuple[Face, ...]
"""What a picture shows: the class of the whole, or the faces in it, each with a class of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Crafted:
    """Perturbations of one batch.

    Attributes:
        deltas: One per picture, (c, h, w), as a fraction of the pixel range.
        losses: Final value of the crafting objective, one per picture; lower is better. With several faces, their mean.
        alignments: Share of each picture in the batch's cosine with the direction; their mean is the cosine.
        sign_agreement: Share of channel values on which joint and decoupled crafting step alike; None if not measured.
    """

    deltas: Sequence[Float[np.ndarray, "c h w"]]
    losses: Sequence[float]
    alignments: Sequence[float]
    sign_agreement: float | None = None


class Crafter(Protocol):
    """Crafts one batch; equal arguments give equal results, whatever was crafted before."""

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        """Craft perturbations for pictures with equal channel counts and any sizes, each with something to see."""
        ...

    def on(self, device: str) -> "Crafter":
        """Return the same on another device."""
        ...


def untouched(pictures: Sequence[Picture]) -> Crafted:
    """Leave pictures that show no face as they are; nothing is measured on them."""
    unknown = [float("nan")] * len(pictures)
    deltas = [np.zeros((picture.levels.shape[2], *picture.levels.shape[:2]), np.float32) for picture in pictures]
    return Crafted(deltas, unknown, unknown)
