"""Finished images of shards that cannot be written yet, one file per batch, and the writer that turns them into shards.

A batch file holds its images one after the other, then a table of contents as JSON ([shard, row, size] for each image),
then the size of that table in 8 bytes. Images are read back one by one, so that a release larger than memory can be
assembled.
"""

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from withhold.data.atomic import atomic_file, whole_file, write_atomic
from withhold.data.dataset import Entry
from withhold.data.pixels import Picture
from withhold.data.place import Place
from withhold.errors import InvalidInput, RunStopped

_SIZE_BYTES = 8


class ShardImages:
    """The finished images of one shard, by row; read from disk when asked for.

    Attributes:
        rows: Those that will be released, ascending; the shard's other rows are left out.
    """

    def __init__(self, shard: str, rows: np.ndarray, files: Sequence[Path], where: np.ndarray) -> None:
        self.rows = np.sort(rows)
        self._files = files
        self._where = where[np.argsort(where["row"], kind="stable")]
        missing = np.setdiff1d(self.rows, self._where["row"])
        if missing.size:
            msg = f"{missing.size} finished images of {shard} are gone, the first of row {missing[0]}; start anew"
            raise RunStopped(msg)

    def __contains__(self, row: int) -> bool:
        """Whether the row is released."""
        place = int(np.searchsorted(self.rows, row))
        return place < len(self.rows) and bool(self.rows[place] == row)

    def __getitem__(self, row: int) -> bytes:
        """Read one finished image."""
        place: tuple[int, int, int, int] = self._where[np.searchsorted(self._where["row"], row)].item()
        _, number, offset, size = place
        with self._files[number].open("rb") as file:
            file.seek(offset)
            return file.read(size)


@dataclass(frozen=True, slots=True)
class ShardWriter:
    """Writer of the layouts that keep many images in one file.

    Attributes:
        source: Folder that the shards' paths start from.
        shards: Files to rebuild, in order.
        copied: Files to take over byte for byte.
        encoder: Turns pixels into stored bytes.
        rebuild: Writes the released form of a shard to an open file.
    """

    source: Place
    destination: Place
    spool: Path
    shards: Sequence[str]
    encoder: Callable[[Entry, Picture], bytes]
    rebuild: Callable[[str, ShardImages, BinaryIO], None]
    copied: Sequence[str] = ()

    def encode(self, entry: Entry, picture: Picture) -> bytes:
        """Encode one image as the layout stores it."""
        return self.encoder(entry, picture)

    def write(self, batch: int, images: Sequence[tuple[Entry, bytes]]) -> None:
        """Keep one batch until its shards can be built."""
        contents = [(entry.shard, entry.row, len(content)) for entry, content in images]
        table = json.dumps(contents, separators=(",", ":")).encode()
        with atomic_file(self.spool / f"{batch:06d}.images") as file:
            for _, content in images:
                file.write(content)
            file.write(table)
            file.write(len(table).to_bytes(_SIZE_BYTES, "little"))

    def assemble(self, entries: Sequence[Entry]) -> None:
        """Build every shard that is not there yet; images that are not among `entries` are left out.

        Raises:
            RunStopped: A shard of the source cannot be read any more, the disk is full, or finished images are gone.
        """
        released: dict[str, array[int]] = defaultdict(lambda: array("q"))
        for entry in entries:
            released[entry.shard].append(entry.row)
        files = sorted(self.spool.glob("*.images"))
        where = _locate(files)
        for shard in self.shards:
            if (self.destination / shard).exists():
                continue
            rows = np.array(released[shard], dtype=np.int64)
            images = ShardImages(shard, rows, files, where.get(shard, np.empty(0, _PLACE)))
            with _building(self.source / shard), whole_file(self.destination / shard, self.spool) as file:
                self.rebuild(shard, images, file)
        for name in self.copied:
            with _building(self.source / name):
                write_atomic(self.destination / name, (self.source / name).read_bytes())


@contextmanager
def _building(source: Place) -> Iterator[None]:
    try:
        yield
    except (OSError, InvalidInput) as error:
        msg = f"cannot build the release of {source} ({error}); restore the file, then run the same command again"
        raise RunStopped(msg) from error


_PLACE = np.dtype([("row", np.int64), ("file", np.int32), ("offset", np.int64), ("size", np.int64)])


def _locate(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Read the tables of contents: where each shard's images lie, 28 bytes for each."""
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    for number, path in enumerate(files):
        places: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
        offset = 0
        for shard, row, size in _contents(path):
            places[shard].append((row, number, offset, size))
            offset += size
        for shard, found in places.items():
            parts[shard].append(np.array(found, dtype=_PLACE))
    return {shard: np.concatenate(found) for shard, found in parts.items()}


def _contents(path: Path) -> Iterator[tuple[str, int, int]]:
    with path.open("rb") as file:
        end = file.seek(-_SIZE_BYTES, 2)
        size = int.from_bytes(file.read(_SIZE_BYTES), "little")
        file.seek(end - size)
        table = json.loads(file.read(size))
    yield from table
