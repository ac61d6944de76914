"""A dataset of photographs in shards that are named, labelled and sized, but not there, and work that does nothing."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from withhold.data.dataset import Entry, Writer
from withhold.data.entries import ENTRY
from withhold.data.listing import released_name
from withhold.data.pixels import Picture
from withhold.data.place import Place
from withhold.release.crafting import Crafted, Shown
from withhold.release.engines.batches import Batch, Record, Work
from withhold.release.scan import LOOK, Scan

SIZES = ((500, 375), (375, 500), (500, 333), (500, 334))
"""Width and height of the images, in turn: those of most of ImageNet."""

BLOCK = 1 << 20
"""Rows that are made at a time where columns are made without listing and reading."""


class SyntheticDataset:
    """Photographs in tar shards; the stored bytes of each are its name."""

    layout = "webdataset"
    random_access = False
    root = Path("synthetic")

    def __init__(self, images: int, per_shard: int = 10_000, classes: int = 1000) -> None:
        self.images, self.per_shard = images, per_shard
        self.classes = tuple(map(str, range(classes)))

    def entries(self) -> Iterator[Entry]:
        """Yield every image."""
        classes, per_shard = len(self.classes), self.per_shard
        for first in range(0, self.images, per_shard):
            shard = f"shard-{first // per_shard:06d}.tar"
            for row in range(min(per_shard, self.images - first)):
                yield Entry(f"{shard}#{row:06d}.jpg", (first + row) % classes, shard, row)

    def ignored(self) -> list[str]:
        """Name nothing."""
        return []

    def read(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the name of each image."""
        for entry in entries:
            yield entry.name.encode()

    def decode(self, stored: bytes) -> Picture:
        """Give a size, and pixels that take no memory."""
        width, height = SIZES[int(stored[-10:-4]) % len(SIZES)]
        return Picture(np.broadcast_to(np.uint8(0), (height, width, 3)))

    def released_names(self, entries: Sequence[Entry], lossless: str) -> list[str]:
        """Name as `TarDataset` does."""
        return [released_name(entry.name, lossless) for entry in entries]

    def writer(self, destination: Place, spool: Path, lossless: str) -> Writer:
        """Refuse: nothing is written."""
        raise NotImplementedError

    def scanned(self) -> Scan:
        """Make the columns that `scan` would make, faster than it does and at once in their final place."""
        schema = pa.schema([*ENTRY, *LOOK])
        blocks = [self._block(start) for start in range(0, self.images, BLOCK)]
        columns: list[Any] = []
        for name in schema.names:  # one after the other, so that no more than one column is there twice
            columns.append(pa.concat_arrays([chunk for block in blocks for chunk in block.column(name).chunks]))
            blocks = [block.drop_columns(name) for block in blocks]
        return Scan(pa.table(columns, schema=schema), ())

    def _block(self, start: int) -> pa.Table:
        number = np.arange(start, min(start + BLOCK, self.images))
        row: Any = number % self.per_shard
        shard: Any = pc.binary_join_element_wise("shard-", _digits(number // self.per_shard), ".tar", "")
        name = pc.binary_join_element_wise(shard, "#", _digits(row), ".jpg", "")
        size = np.array(SIZES, np.int32)[row % len(SIZES)]
        digests = b"".join(hashlib.sha256(each.encode()).digest() for each in name.to_pylist())
        kind = LOOK.field("sha256").type
        columns = {
            "name": name,
            "label": pa.array(number % len(self.classes)),
            "shard": shard,
            "row": pa.array(row),
            "split": pa.array([""] * len(row)),
            "width": pa.array(size[:, 0]),
            "height": pa.array(size[:, 1]),
            "mode": pa.array(["RGB"] * len(row)),
            "sha256": pa.FixedSizeBinaryArray.from_buffers(kind, len(row), [None, pa.py_buffer(digests)]),
        }
        return pa.table(columns).cast(pa.schema([*ENTRY, *LOOK]))


def _digits(numbers: Any) -> Any:  # noqa: ANN401 - of Arrow
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 6, "0")


class NoCrafter:
    """Stands where a crafter does."""

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        """Refuse: `NoWork` does not call it."""
        raise NotImplementedError

    def on(self, device: str) -> "NoCrafter":  # noqa: ARG002
        """Return the same."""
        return self


class NoWork(Work):
    """Reads, crafts and writes nothing, so that what is left is the driver's."""

    def load(self, batch: Batch, codec: ThreadPoolExecutor) -> list[Picture]:  # noqa: ARG002
        """Give no pictures."""
        return []

    def craft(self, batch: Batch, pictures: Sequence[Picture]) -> Crafted:  # noqa: ARG002
        """Give no perturbations."""
        return Crafted([], [], [])

    def store(
        self,
        batch: Batch,
        pictures: Sequence[Picture],  # noqa: ARG002
        crafted: Crafted,  # noqa: ARG002
        codec: ThreadPoolExecutor,  # noqa: ARG002
    ) -> Record:
        """Make up a record with digests and measurements that differ as real ones do."""
        return record_of(batch.rows)


def record_of(rows: Sequence[int]) -> Record:
    """Make up the record of a batch."""
    digests = [hashlib.sha256(b"%d" % row).hexdigest() for row in rows]
    drawn = np.random.default_rng(rows[0]).normal(size=(4, len(rows))).tolist()
    psnr, ssim, loss, alignment = drawn
    return Record(rows, digests, [8.0] * len(rows), psnr, ssim, loss, alignment, [None] * len(rows))
