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


SIZE = Size(images=300, test_images=100, epochs=12, steps=25)
"""What takes less than five minutes on two idle CPU cores, and leaves the effect in no doubt."""
