"""Small images and datasets whose every pixel the tests know."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from withhold.data.dataset import Dataset, Entry
from withhold.data.open import open_dataset
from withhold.data.pixels import Picture, change

BOUND = 8


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 (options are Pillow's)
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def noise(mode: str, seed: int = 0, size: tuple[int, int] = (7, 9)) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, size, dtype=np.uint16))
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(rng.integers(0, 256, (*size, *channels), dtype=np.uint8))


def jpeg(seed: int) -> bytes:
    return saved(noise("RGB", seed), "JPEG")


def png(seed: int, mode: str = "RGB") -> bytes:
    return saved(noise(mode, seed), "PNG")


def push(picture: Picture) -> Picture:
    """Change every level by 8, towards the middle of the range."""
    upwards = np.where(picture.unit() < 0.5, 1.0, -1.0)
    return picture.perturbed(upwards * 8 / 255, BOUND)


@dataclass
class Release:
    """A protected copy made by `release`, beside its source."""

    source: Dataset
    released: Dataset
    folder: Path
    spool: Path

    def names(self) -> list[str]:
        return [entry.name for entry in self.released.entries()]


class Releasing:
    """Protects a dataset with a known change, in shuffled batches of three."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, root: Path, *, lossless: str = "png", splits: Sequence[str] = (), without: Sequence[str] = ()
    ) -> Release:
        source = open_dataset(root, splits=splits)
        entries = [entry for entry in source.entries() if entry.name not in without]
        writer = source.writer(self.folder / "release", self.folder / "spool", lossless)
        order = np.random.default_rng(0).permutation(len(entries))
        for batch, start in enumerate(range(0, len(order), 3)):
            some = [entries[place] for place in order[start : start + 3]]
            pictures = [source.decode(stored) for stored in source.read(some)]
            images = [
                (entry, writer.encode(entry, push(picture))) for entry, picture in zip(some, pictures, strict=True)
            ]
            writer.write(batch, images)
        writer.assemble(entries)
        released = open_dataset(self.folder / "release")
        self._compare(source, entries, released, lossless)
        return Release(source, released, self.folder / "release", self.folder / "spool")

    def _compare(self, source: Dataset, before: list[Entry], released: Dataset, lossless: str) -> None:
        found = list(released.entries())
        names = source.released_names(before, lossless)
        if found[0].name.endswith("#0"):  # numbered rows: those behind one that is left out move up
            names = [entry.name for entry in found]
        after = {entry.name: entry for entry in found}
        assert released.layout == source.layout
        assert released.classes == source.classes
        assert len(after) == len(before)
        for entry, name in zip(before, names, strict=True):
            assert (after[name].label, after[name].split) == (entry.label, entry.split)
            old, new = (d.decode(next(iter(d.read([e])))) for d, e in ((source, entry), (released, after[name])))
            assert new.mode == old.mode
            assert (change(old, new) == BOUND).all()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
