"""The owner's images as a surrogate is trained on them: held in memory, or read, decoded and cropped when needed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from withhold.data.arrays import RGB, as_it_is, centre_crop, random_crop, read_arrays, spread_rows, stack_arrays
from withhold.data.dataset import Dataset
from withhold.data.entries import Entries
from withhold.errors import InvalidInput
from withhold.networks.choose import Sizes, Views
from withhold.networks.tensor_data import TensorData, shift_and_mirror
from withhold.networks.training import TrainingData, as_unit

HELD_BYTES = 1 << 30
"""Largest set of pixels that is held in memory."""

POOL_BYTES = 1 << 28
"""Pixels that are shuffled together where only neighbours are cheap to read."""

NEIGHBOURS = 256
"""Images read in a row where only neighbours are cheap to read."""

WHOLE = frozenset({"shift", "subpixel"})
"""Views, as the settings name them, in which nothing is resized."""


class Originals(Protocol):
    """What a surrogate is trained and measured on.

    Attributes:
        kind: What each one is, in the plural.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def classes(self) -> int:
        """Number of classes, with or without originals."""
        ...

    @property
    def sizes(self) -> Sizes:
        """Summary of their sizes."""
        ...

    def __len__(self) -> int:
        """Count them."""
        ...

    def views(self, input_size: int, augment: str) -> Views:
        """Say what a surrogate of this input size is shown of each.

        Raises:
            InvalidInput: It is to see whole pictures, and they do not fit it.
        """
        ...

    def training(self, input_size: int, views: Views) -> TrainingData:
        """Return them as training data."""
        ...

    def sample(self, input_size: int, views: Views, most: int) -> tuple[Tensor, Tensor]:
        """Read up to `most` from all over the set: images (n, 3, input_size, input_size), uint8, and labels (n,)."""
        ...

    def some(self, most: int) -> "Originals":
        """Keep about `most` from all over the set."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class WholeImages:
    """Images as they are, or crops of them; all are readable."""

    dataset: Dataset
    entries: Entries
    sizes: Sizes
    kind: ClassVar[str] = "images"

    @property
    def classes(self) -> int:
        """Number of classes of the dataset."""
        return len(self.dataset.classes)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.entries)

    def views(self, input_size: int, augment: str) -> Views:
        """Say what a surrogate of this input size is shown of each image: all of it, or a random resized crop."""
        if self.sizes.uniform_side == input_size:
            return "native"
        if augment in WHOLE:
            side = self.sizes.uniform_side
            found = f"they are {side} x {side}" if side else "they are not squares of one size"
            msg = (
                f"augment={augment} shows the surrogate whole pictures, which must be {input_size} x {input_size} as "
                f"it sees them; {found}. Use crop{f', or --input-size {side}' if side else ''}."
            )
            raise InvalidInput(msg)
        return "crop"

    def training(self, input_size: int, views: Views) -> TrainingData:
        """Hold the images in memory, or stream them."""
        return training_data(self.dataset, self.entries, input_size, views)

    def sample(self, input_size: int, views: Views, most: int) -> tuple[Tensor, Tensor]:
        """Read some images, whole or as the centre crop that a trainer tests with."""
        return sample(self.dataset, self.entries, input_size, views, most=most)

    def some(self, most: int) -> "WholeImages":
        """Keep every so many-th image."""
        return replace(self, entries=self.entries[:: max(1, len(self.entries) // most)])


def training_data(dataset: Dataset, entries: Entries, input_size: int, views: Views) -> TrainingData:
    """Hold the images in memory if they are all of the input size and fit, otherwise stream them."""
    if views == "native" and len(entries) * RGB * input_size**2 <= HELD_BYTES:
        images, labels = _tensors(dataset, entries, input_size, views)
        return TensorData(images, labels, len(dataset.classes))
    return StreamedData(dataset, entries, input_size, views)


class StreamedData:
    """Images of any number and sizes, read from the dataset in every epoch; see `TrainingData`.

    With `crop` views each image is a random part of a quarter to all of its area, at an aspect of 3:4 to 4:3, resized
    with antialiasing and mirrored half of the time. With `native` views it is shifted and mirrored as by `TensorData`.
    """

    def __init__(self, dataset: Dataset, entries: Entries, input_size: int, views: Views) -> None:
        self._dataset = dataset
        self._entries = entries
        self._side = input_size
        self._views = views
        self._labels = torch.from_numpy(entries.labels.astype(np.int64))
        self.classes = len(dataset.classes)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._entries)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once; decoding goes on in threads while the caller trains."""
        rows = self._order(generator)
        draws = torch.rand(len(self), 5, generator=generator, dtype=torch.float64).numpy()
        prepare = random_crop(self._side) if self._views == "crop" else as_it_is
        pixels = read_arrays(self._dataset, self._entries.take(rows.numpy()), prepare, draws)
        sizes = [len(part) for part in torch.tensor_split(rows, math.ceil(len(self) / batch_size))]
        together = 1 if self._dataset.random_access else max(1, POOL_BYTES // (RGB * self._side**2 * batch_size))
        done = 0
        for start in range(0, len(sizes), together):
            pool_sizes = sizes[start : start + together]
            pool = torch.from_numpy(np.stack(list(islice(pixels, sum(pool_sizes)))))
            labels = self._labels[rows[done : done + len(pool)]]
            for chosen in torch.split(torch.randperm(len(pool), generator=generator), pool_sizes):
                batch = pool[chosen] if self._views == "crop" else shift_and_mirror(pool, chosen, generator)
                yield as_unit(batch).permute(0, 3, 1, 2), labels[chosen]
            done += len(pool)

    def _order(self, generator: torch.Generator) -> Tensor:
        if self._dataset.random_access:
            return torch.randperm(len(self), generator=generator)
        windows = torch.split(torch.arange(len(self)), NEIGHBOURS)
        return torch.cat([windows[int(index)] for index in torch.randperm(len(windows), generator=generator)])


def sample(dataset: Dataset, entries: Entries, input_size: int, views: Views, *, most: int) -> tuple[Tensor, Tensor]:
    """Read up to `most` images from all over the set, whole or as the centre crop that a trainer tests with.

    Returns:
        Images (n, 3, input_size, input_size), uint8, and labels (n,), int64.
    """
    rows = spread_rows(len(entries), most, random_access=dataset.random_access)
    return _tensors(dataset, entries.take(rows), input_size, views)


def _tensors(dataset: Dataset, entries: Entries, input_size: int, views: Views) -> tuple[Tensor, Tensor]:
    prepare = centre_crop(input_size) if views == "crop" else as_it_is
    images, labels = stack_arrays(dataset, entries, input_size, prepare)
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
