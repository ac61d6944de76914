"""A dataset that exists only in memory, for what reads images and knows nothing of layouts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from withhold.data.dataset import Entry, Writer
from withhold.data.entries import Entries, list_entries
from withhold.data.pixels import Picture, UnreadableImage
from withhold.data.place import Place


class MemoryDataset:
    """Pictures by position; the stored bytes of a picture are its position."""

    root = Path("nowhere")
    layout = "memory"

    def __init__(
        self, pictures: Sequence[np.ndarray], labels: Sequence[int], classes: int, *, random_access: bool = True
    ) -> None:
        self.pictures = pictures
        self.labels = labels
        self.classes = tuple(f"class {index}" for index in range(classes))
        self.random_access = random_access
        self.reads: list[int] = []
        self.broken: set[int] = set()

    def entries(self) -> Iterator[Entry]:
        for row, label in enumerate(self.labels):
            yield Entry(f"shard#{row}", label, "shard", row)

    def listing(self) -> Entries:
        return Entries(list_entries(self))

    def ignored(self) -> Sequence[str]:
        return ()

    def read(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        for entry in entries:
            self.reads.append(entry.row)
            yield str(entry.row).encode()

    def decode(self, stored: bytes) -> Picture:
        if int(stored) in self.broken:
            msg = "the bytes changed"
            raise UnreadableImage(msg)
        return Picture(self.pictures[int(stored)])

    def released_names(self, entries: Sequence[Entry], lossless: str) -> list[str]:
        raise NotImplementedError

    def writer(self, destination: Place, spool: Path, lossless: str) -> Writer:
        raise NotImplementedError


def stripes(count: int, side: int = 16, *, seed: int = 0, random_access: bool = True) -> MemoryDataset:
    """Two classes that only the direction of stripes tells apart, under noise."""
    draw = np.random.default_rng(seed)
    wave = np.where(np.arange(side) % 4 < 2, 150, 60)
    pictures = []
    for index in range(count):
        lines = np.roll(wave, draw.integers(4))
        levels = lines[:, None, None] if index % 2 == 0 else lines[None, :, None]
        noisy = levels + draw.normal(0, 25, (side, side, 3))
        pictures.append(noisy.clip(0, 255).astype(np.uint8))
    return MemoryDataset(pictures, [index % 2 for index in range(count)], 2, random_access=random_access)
