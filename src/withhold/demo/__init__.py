"""The demonstration: it protects a real image set and measures what a competitor's model learns from it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """How large a demonstration is.

    Attributes:
        images: Training images per class.
        test_images: Test images per class; of a dataset given by path the whole test split is used.
        epochs: Of the surrogate and of the competitor.
        steps: Of crafting.
    """

    images: int
    test_images: int
    epochs: int
    steps: int


SIZE = Size(images=400, test_images=100, epochs=15, steps=40)
"""What takes about four minutes on two CPU cores, and leaves the effect in no doubt."""
