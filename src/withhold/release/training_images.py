"""The owner's images as a network is trained on them: held in memory, or read, decoded and cropped when needed."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from withhold.data.dataset import Dataset
from withhold.data.pixels import Picture, UnreadableImage
from withhold.errors import RunStopped
from withhold.networks.choose import Views
from withhold.networks.tensor_data import TensorData, shift_and_mirror
from withhold.networks.training import TrainingData, as_unit
from withhold.release.entries import Entries, Stored, read_groups
from withhold.release.parallel import map_ahead

HELD_BYTES = 1 << 30
"""Largest set of pixels that is held in memory."""

POOL_BYTES = 1 << 28
"""Pixels that are shuffled together where only neighbours are cheap to read."""

NEIGHBOURS = 256
"""Images read in a row where only neighbours are cheap to read."""

SMALLEST_AREA = 0.25
CENTRE = 7 / 8
RGB = 3

Pixels = npt.NDArray[np.uint8]
Prepare = Callable[[Pixels, npt.NDArray[np.float64]], Pixels]


def training_data(dataset: Dataset, entries: Entries, input_size: int, views: Views) -> TrainingData:
    """Hold the images in memory if they are all of the input size and fit, otherwise stream them."""
    if views == "native" and len(entries) * RGB * input_size**2 <= HELD_BYTES:
        images, labels = read_whole(dataset, entries, np.arange(len(entries)), input_size)
        return TensorData(images.permute(0, 3, 1, 2), labels, len(dataset.classes))
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
        self._labels = torch.tensor([entry.label for entry in entries], dtype=torch.int64)
        self.classes = len(dataset.classes)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._entries)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once; decoding goes on in threads while the caller trains."""
        rows = self._order(generator)
        draws = torch.rand(len(self), 5, generator=generator, dtype=torch.float64).numpy()
        prepare: Prepare = _random_crop(self._side) if self._views == "crop" else _as_it_is
        pixels = _read(self._dataset, self._entries, rows.numpy(), draws, prepare)
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
    images, labels = read_whole(dataset, entries, _spread(len(entries), most, dataset.random_access), input_size, views)
    return images.permute(0, 3, 1, 2), labels


def read_whole(
    dataset: Dataset, entries: Entries, rows: npt.NDArray[np.int64], input_size: int, views: Views = "native"
) -> tuple[Tensor, Tensor]:
    """Read images of one size, or the centres of images of any size; return (n, side, side, 3), uint8, and labels."""
    images = np.empty((len(rows), input_size, input_size, RGB), np.uint8)
    prepare: Prepare = _centre_crop(input_size) if views == "crop" else _as_it_is
    for index, pixels in enumerate(_read(dataset, entries, rows, np.zeros((len(rows), 5)), prepare)):
        images[index] = pixels
    return torch.from_numpy(images), torch.tensor([entry.label for entry in entries.take(rows)], dtype=torch.int64)


def _spread(count: int, most: int, random_access: bool) -> npt.NDArray[np.int64]:
    if count <= most:
        return np.arange(count)
    run = 1 if random_access else min(most, 64)
    starts = np.linspace(0, count - run, most // run).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(run))


def _read(
    dataset: Dataset,
    entries: Entries,
    rows: npt.NDArray[np.int64],
    draws: npt.NDArray[np.float64],
    prepare: Prepare,
) -> Iterator[Pixels]:
    chosen = entries.take(rows)

    def groups() -> Iterator[tuple[int, Sequence[Stored]]]:
        start = 0
        for group in read_groups(dataset, chosen):
            yield start, group
            start += len(group)

    def decode(numbered: tuple[int, Sequence[Stored]]) -> list[Pixels]:
        start, group = numbered
        return [
            prepare(_colour(_decode(dataset, stored, chosen, start + index)), draws[start + index])
            for index, stored in enumerate(group)
        ]

    for prepared in map_ahead(decode, groups()):
        yield from prepared


def _decode(dataset: Dataset, stored: Stored, entries: Entries, index: int) -> Picture:
    try:
        if not isinstance(stored, bytes):
            raise stored
        return dataset.decode(stored)
    except (OSError, UnreadableImage) as error:
        msg = f"{entries[index].name} can no longer be read ({error}); put it back as it was and run the command again."
        raise RunStopped(msg) from error


def _colour(picture: Picture) -> Pixels:
    """Give 8-bit colour, whatever the picture holds: a network sees only this much."""
    levels = picture.levels
    if levels.dtype != np.uint8:
        levels = np.rint(picture.unit().transpose(1, 2, 0) * np.iinfo(np.uint8).max).astype(np.uint8)
    return np.repeat(levels, RGB, axis=2) if levels.shape[2] == 1 else levels


def _as_it_is(pixels: Pixels, _: npt.NDArray[np.float64]) -> Pixels:
    return pixels


def _random_crop(side: int) -> Prepare:
    def crop(pixels: Pixels, draw: npt.NDArray[np.float64]) -> Pixels:
        height, width, _ = pixels.shape
        area = (SMALLEST_AREA + (1 - SMALLEST_AREA) * draw[0]) * height * width
        aspect = (4 / 3) ** (2 * draw[1] - 1)
        wide, high = min(width, math.sqrt(area * aspect)), min(height, math.sqrt(area / aspect))
        left, top = draw[2] * (width - wide), draw[3] * (height - high)
        cropped = _resize(pixels, side, (left, top, left + wide, top + high))
        return cropped[:, ::-1] if draw[4] < 0.5 else cropped  # noqa: PLR2004

    return crop


def _centre_crop(side: int) -> Prepare:
    def crop(pixels: Pixels, _: npt.NDArray[np.float64]) -> Pixels:
        height, width, _channels = pixels.shape
        square = CENTRE * min(height, width)
        left, top = (width - square) / 2, (height - square) / 2
        return _resize(pixels, side, (left, top, left + square, top + square))

    return crop


def _resize(pixels: Pixels, side: int, box: tuple[float, float, float, float]) -> Pixels:
    # Pillow's resize is antialiased; rounding may put the box's far edge a hair outside.
    height, width, _ = pixels.shape
    inside = (box[0], box[1], min(box[2], width), min(box[3], height))
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=inside))
