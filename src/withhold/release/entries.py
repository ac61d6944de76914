"""The images of a dataset as columns: a million entries are a few arrays, not a million objects."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from withhold.data.dataset import Dataset, Entry
from withhold.data.pixels import UnreadableImage
from withhold.errors import WithholdError

_ENTRY_TYPES: Mapping[str, pa.DataType] = {
    "name": pa.string(),
    "label": pa.int32(),
    "shard": pa.string(),
    "row": pa.int64(),
    "split": pa.string(),
}
ENTRY = pa.schema(_ENTRY_TYPES)
WINDOW = 1024
"""Entries that exist as Python objects at a time."""

GROUP_IMAGES, GROUP_BYTES = 64, 8 << 20
"""Work for one thread: so many images, or so many stored bytes, whichever comes first."""

Stored = bytes | OSError | WithholdError
"""What reading one image gave: its bytes, or why there are none."""


class Entries(Sequence[Entry]):
    """A sequence of entries that makes each one from the columns when it is asked for."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.select(ENTRY.names)

    def __len__(self) -> int:
        return self._table.num_rows

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> "Entries": ...
    def __getitem__(self, index: int | slice) -> "Entry | Entries":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            msg = f"entry {index} of {len(self)}"
            raise IndexError(msg)
        return _objects(self._table.slice(index % len(self), 1))[0]

    def __iter__(self) -> Iterator[Entry]:
        for start in range(0, len(self), WINDOW):
            yield from _objects(self._table.slice(start, WINDOW))

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "Entries":
        """Pick entries by position."""
        return Entries(self._table.take(pa.array(rows)))


def _objects(table: pa.Table) -> list[Entry]:
    columns = [table.column(name).to_pylist() for name in ENTRY.names]
    return [Entry(*values) for values in zip(*columns, strict=True)]


def list_entries(dataset: Dataset) -> pa.Table:
    """List every image of a dataset, in its order, as the columns of `ENTRY`."""
    entries = dataset.entries()
    parts: list[pa.RecordBatch] = []
    while window := list(islice(entries, WINDOW)):
        columns = zip(*((e.name, e.label, e.shard, e.row, e.split) for e in window), strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, ENTRY, strict=True)]
        parts.append(pa.record_batch(arrays, schema=ENTRY))
    return pa.Table.from_batches(parts, schema=ENTRY).combine_chunks()


def released_names(dataset: Dataset, entries: Entries, lossless: str) -> "pa.Array[Any]":
    """Name every entry as in the release, as one string column."""
    names: list[pa.Array[Any]] = []
    for start in range(0, len(entries), WINDOW):
        window = list(entries[start : start + WINDOW])
        names.append(pa.array(dataset.released_names(window, lossless), pa.string()))
    return pa.chunked_array(names, pa.string()).combine_chunks()


def read_each(dataset: Dataset, entries: Entries) -> Iterator[Stored]:
    """Read images one by one; a failure to read one is yielded in its place and the next is read."""
    for start in range(0, len(entries), WINDOW):
        window = list(entries[start : start + WINDOW])
        position = 0
        while position < len(window):
            try:
                for stored in dataset.read(window[position:]):
                    yield stored
                    position += 1
            except (OSError, WithholdError) as problem:
                yield problem
                position += 1


def read_groups(dataset: Dataset, entries: Entries) -> Iterator[list[Stored]]:
    """Read images in groups that are each fit work for one thread."""
    group: list[Stored] = []
    size = 0
    for stored in read_each(dataset, entries):
        group.append(stored)
        size += len(stored) if isinstance(stored, bytes) else 0
        if len(group) >= GROUP_IMAGES or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def is_readable(dataset: Dataset, stored: Stored) -> bool:
    """Say whether stored bytes are a picture."""
    if not isinstance(stored, bytes):
        return False
    try:
        dataset.decode(stored)
    except UnreadableImage:
        return False
    return True
