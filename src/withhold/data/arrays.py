"""The pixels of a dataset as 8-bit colour arrays of one size: whole images, or crops of images of any size."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from withhold.data.dataset import Dataset
from withhold.data.entries import Entries, Rows, Stored, read_groups
from withhold.data.parallel import map_ahead
from withhold.data.pixels import Picture, UnreadableImage
from withhold.errors import RunStopped

RGB = 3

SMALLEST_AREA = 0.25
CENTRE = 7 / 8
"""Side of the central square that a network is tested on, as a share of the shorter side: 224 of 256."""

Pixels = npt.NDArray[np.uint8]
Prepare = Callable[[Pixels, npt.NDArray[np.float64]], Pixels]
"""From an image (h, w, 3) and five draws in [0, 1) to an array of the wanted size."""

Prepared = TypeVar("Prepared")


def pixel_digest(pixels: Pixels) -> bytes:
    """Return the SHA-256 of an image's shape and pixels, by which the same image is known in any file."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def read_arrays(
    dataset: Dataset,
    entries: Entries,
    prepare: Callable[[Pixels, npt.NDArray[np.float64]], Prepared],
    draws: npt.NDArray[np.float64] | None = None,
) -> Iterator[Prepared]:
    """Read, decode and prepare images in the order of `entries`; decoding goes on in threads while the caller works.

    Args:
        draws: (n, 5) in [0, 1), five for each image; zeros if absent.

    Raises:
        RunStopped: An image cannot be read.
    """
    draws = np.zeros((len(entries), 5)) if draws is None else draws

    def groups() -> Iterator[tuple[int, Sequence[Stored]]]:
        start = 0
        for group in read_groups(dataset, entries):
            yield start, group
            start += len(group)

    def decode(numbered: tuple[int, Sequence[Stored]]) -> list[Prepared]:
        start, group = numbered
        return [
            prepare(colour(_decode(dataset, stored, entries, start + index)), draws[start + index])
            for index, stored in enumerate(group)
        ]

    for prepared in map_ahead(decode, groups()):
        yield from prepared


def stack_arrays(
    dataset: Dataset, entries: Entries, side: int, prepare: Prepare
) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Read images that `prepare` makes squares of one side: (n, side, side, 3), and their labels (n,)."""
    images = np.empty((len(entries), side, side, RGB), np.uint8)
    for index, pixels in enumerate(read_arrays(dataset, entries, prepare)):
        images[index] = pixels
    return images, np.array([entry.label for entry in entries], np.int64)


def spread_rows(count: int, most: int, *, random_access: bool) -> Rows:
    """Choose up to `most` of `count` rows, spread evenly; in runs where only neighbours are cheap to read."""
    if count <= most:
        return np.arange(count)
    run = 1 if random_access else min(most, 64)
    starts = np.linspace(0, count - run, most // run).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(run))


def colour(picture: Picture) -> Pixels:
    """Give 8-bit colour (h, w, 3), whatever the picture holds: a network sees only this much."""
    levels = picture.levels
    if levels.dtype != np.uint8:
        levels = np.rint(picture.unit().transpose(1, 2, 0) * np.iinfo(np.uint8).max).astype(np.uint8)
    return np.repeat(levels, RGB, axis=2) if levels.shape[2] == 1 else levels


def as_it_is(pixels: Pixels, _: npt.NDArray[np.float64]) -> Pixels:
    """Return the image."""
    return pixels


def random_crop(side: int) -> Prepare:
    """Cut a quarter to all of the image's area at an aspect of 3:4 to 4:3, resize it to a square, mirror half."""

    def crop(pixels: Pixels, draw: npt.NDArray[np.float64]) -> Pixels:
        height, width, _ = pixels.shape
        area = (SMALLEST_AREA + (1 - SMALLEST_AREA) * draw[0]) * height * width
        aspect = (4 / 3) ** (2 * draw[1] - 1)
        wide, high = min(width, math.sqrt(area * aspect)), min(height, math.sqrt(area / aspect))
        left, top = draw[2] * (width - wide), draw[3] * (height - high)
        cropped = _resize(pixels, side, (left, top, left + wide, top + high))
        return cropped[:, ::-1] if draw[4] < 0.5 else cropped  # noqa: PLR2004

    return crop


def centre_crop(side: int, share: float = CENTRE) -> Prepare:
    """Cut the central square, a share of the shorter side, and resize it."""

    def crop(pixels: Pixels, _: npt.NDArray[np.float64]) -> Pixels:
        height, width, _channels = pixels.shape
        square = share * min(height, width)
        left, top = (width - square) / 2, (height - square) / 2
        return _resize(pixels, side, (left, top, left + square, top + square))

    return crop


def _decode(dataset: Dataset, stored: Stored, entries: Entries, index: int) -> Picture:
    try:
        if not isinstance(stored, bytes):
            raise stored
        return dataset.decode(stored)
    except (OSError, UnreadableImage) as error:
        msg = f"{entries[index].name} cannot be read ({error}); put it back as it was and run the command again."
        raise RunStopped(msg) from error


def _resize(pixels: Pixels, side: int, box: tuple[float, float, float, float]) -> Pixels:
    # Pillow's resize is antialiased; rounding may put the box's far edge a hair outside.
    height, width, _ = pixels.shape
    inside = (box[0], box[1], min(box[2], width), min(box[3], height))
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=inside))
