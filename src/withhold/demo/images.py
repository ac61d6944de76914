"""The images of a demonstration: a training set to protect and a clean test set, as class folders on disk."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from withhold.data.open import open_dataset
from withhold.data.pixels import Picture, encode
from withhold.errors import InvalidInput

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """One image: which split and class it belongs to, what it is called, and its levels, (h, w, c) uint8."""

    split: str
    label: str
    name: str
    levels: np.ndarray


def images_of(root: Path, per_class: int) -> Iterator[Labelled]:
    """Take the first training images of each class of a dataset, and its whole test split.

    Raises:
        InvalidInput: The dataset has no train or test split, or too few images of a class.
    """
    dataset = open_dataset(root)
    taken: Counter[tuple[str, int]] = Counter()
    for entry in dataset.entries():
        if entry.split not in (TRAIN, TEST) or (entry.split == TRAIN and taken[TRAIN, entry.label] == per_class):
            continue
        (stored,) = dataset.read([entry])
        levels = dataset.decode(stored).levels
        yield Labelled(entry.split, dataset.classes[entry.label], f"{taken[entry.split, entry.label]:05d}", levels)
        taken[entry.split, entry.label] += 1
    if {split for split, _ in taken} != {TRAIN, TEST}:
        msg = f"the demonstration needs a train and a test split in {root}, such as the CIFAR-10 python batches have"
        raise InvalidInput(msg)


def write_folders(images: Iterable[Labelled], folders: dict[str, Path]) -> None:
    """Write images as PNG files into one folder per class, under the folder of their split."""
    for image in images:
        path = folders[image.split] / image.label / f"{image.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Picture(image.levels), "png"))
