"""A real labelled image set that needs no download: patches of the photographs that come inside scikit-image."""

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from withhold.demo.images import TEST, TRAIN, Labelled
from withhold.errors import InvalidInput
from withhold.seeds import derive_seed

PHOTOGRAPHS = (
    "brick.png",
    "cell.png",
    "chelsea.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Each photograph is a class; all lie in the installed package itself."""

PATCH = 32
TILE = 64
EDGE = 2
"""Pixels at a tile's edge that no patch touches, so that patches of neighbouring tiles are apart."""

FLAT = 2.0
"""Patches whose levels deviate less than this show nothing, such as the black around the retina, and are redrawn."""

HELD_OUT = 4
"""One tile in so many is kept for test patches."""


def photograph_patches(train: int, test: int, seed: int) -> Iterator[Labelled]:
    """Cut patches from ten photographs, each photograph a class.

    A photograph is divided into tiles. Test patches come from one tile in four, spread evenly, training patches from
    the others, so that no test pixel was ever trained on.

    Args:
        train: Training patches per photograph.
        test: Test patches per photograph.
        seed: Of the patches' places.

    Yields:
        Patches of 32 x 32 pixels, in grey: these few photographs are told apart by their palettes alone, and no small
        change hides that, so colour would make a task unlike that of telling real classes apart.

    Raises:
        InvalidInput: scikit-image is not installed, or no longer holds one of the photographs.
    """
    folder = _bundled()
    for number, file in enumerate(PHOTOGRAPHS):
        pixels = _read(folder / file)
        rng = np.random.default_rng(derive_seed(seed, "patches", number))
        for split, count in ((TRAIN, train), (TEST, test)):
            tiles = held_out_tiles(pixels.shape[:2], test=split == TEST)
            drawn = (_patch(pixels, tiles[rng.integers(len(tiles))], rng) for _ in itertools.repeat(None))
            shown = (patch for patch in drawn if patch.std() >= FLAT)
            for index, patch in enumerate(itertools.islice(shown, count)):
                yield Labelled(split, Path(file).stem, f"{index:04d}", patch)


def held_out_tiles(size: tuple[int, int], *, test: bool) -> list[tuple[int, int]]:
    """List the corners (top, left) of the test or the training tiles of a photograph of this (height, width)."""
    rows, columns = size[0] // TILE, size[1] // TILE
    return [
        (row * TILE, column * TILE)
        for row in range(rows)
        for column in range(columns)
        if ((row + 2 * column) % HELD_OUT == 0) == test
    ]


def _patch(pixels: np.ndarray, tile: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    top, left = tile + rng.integers(EDGE, TILE - PATCH - EDGE + 1, 2)
    return pixels[top : top + PATCH, left : left + PATCH]


def _bundled() -> Path:
    # Found without importing it: only its files are needed, and its own loader would try to download what is missing.
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        msg = "the demonstration needs the photographs inside scikit-image; install it: pip install 'withhold[demo]'"
        raise InvalidInput(msg)
    return Path(package.origin).parent / "data"


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        msg = f"this scikit-image holds no {path.name}; install version 0.26, or give your own data with --data"
        raise InvalidInput(msg)
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))[..., np.newaxis]
