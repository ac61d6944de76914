"""The images of a dataset as columns: a million entries are a few arrays, not a million objects."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from withhold.data.dataset import Dataset, Entry
from withhold.data.pixels import UnreadableImage
from withhold.errors import RunStopped, StoreFailed, WithholdError

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

Rows = npt.NDArray[np.int64]
"""Positions in a listing."""

Item = TypeVar("Item")


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


def is_numbered(listing: pa.Table) -> bool:
    """Whether images have no names of their own, only rows of a file."""
    return bool(pc.all(pc.equal(listing.column("name"), _numbered(listing, listing.column("row")))).as_py())


def moved_up(listing: pa.Table, names: "pa.Array[Any]", kept: npt.NDArray[np.bool_]) -> "pa.Array[Any]":
    """Correct released names for what is left out: numbered images behind it move up in their file.

    Args:
        listing: The columns of `ENTRY`, file by file.
        names: Name of each image in a release that leaves none out.
        kept: Which images are released; the others keep the name they would have had.
    """
    if kept.all() or not is_numbered(listing):
        return names
    shard: Any = listing.column("shard").combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(shard, return_index=True)
    kept_before = np.cumsum(kept, dtype=np.int64) - kept
    numbered = _numbered(listing, pa.chunked_array([kept_before - kept_before[first[shard]]])).combine_chunks()
    result: pa.Array[Any] = pc.if_else(pa.array(kept), numbered, names)
    return result


def _numbered(listing: pa.Table, rows: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    mark: Any = "#"
    joined: pa.ChunkedArray[Any] = pc.binary_join_element_wise(listing.column("shard"), rows.cast(pa.string()), mark)
    return joined


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
            except StoreFailed:
                raise  # that says nothing of the image
            except (OSError, WithholdError) as problem:
                yield problem
                position += 1


def read_groups(dataset: Dataset, entries: Entries) -> Iterator[list[Stored]]:
    """Read images in groups that are each fit work for one thread."""
    return in_groups(read_each(dataset, entries), size_of)


def size_of(stored: Stored) -> int:
    """Count the bytes of an image that could be read."""
    return len(stored) if isinstance(stored, bytes) else 0


def in_groups(items: Iterable[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Divide items, each of some bytes, into groups of at most `GROUP_IMAGES`, ended early at `GROUP_BYTES`."""
    group: list[Item] = []
    size = 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if len(group) >= GROUP_IMAGES or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def refuse_failure(group: Sequence[Stored]) -> None:
    """Stop where reading failed for a reason that lies in the disk, not in the image.

    Raises:
        RunStopped: The system refused to give a file.
    """
    for stored in group:
        if isinstance(stored, OSError):
            where = f" {stored.filename}" if stored.filename else ""
            msg = f"cannot read the source{where}: {stored.strerror or stored}; see to it, and run the command again."
            raise RunStopped(msg) from stored
        if isinstance(stored, WithholdError) and not isinstance(stored, UnreadableImage):
            raise stored


def is_readable(dataset: Dataset, stored: Stored) -> bool:
    """Say whether stored bytes are a picture."""
    if not isinstance(stored, bytes):
        return False
    try:
        dataset.decode(stored)
    except UnreadableImage:
        return False
    return True
