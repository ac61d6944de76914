"""The images of a dataset as columns: a million entries are a few arrays, not a million objects."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from withhold.data.dataset import Dataset, Entry
from withhold.data.pixels import UnreadableImage
from withhold.errors import RunStopped, StoreFailed, WithholdError

TEXT = pa.large_string()
"""Text in a column of its own; the offsets of `string` end at 2 GiB, which some 70 million names take."""

REPEATED = pa.dictionary(pa.int32(), TEXT)
"""Text that many rows share."""

_ENTRY_TYPES: Mapping[str, pa.DataType] = {
    "name": TEXT,
    "label": pa.int32(),
    "shard": REPEATED,
    "row": pa.int64(),
    "split": REPEATED,
}
ENTRY = pa.schema(_ENTRY_TYPES)
_PLAIN = pa.schema({name: TEXT if kind == REPEATED else kind for name, kind in _ENTRY_TYPES.items()})
"""The same without dictionaries, whose values become objects slowly."""

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
    """A sequence of entries that makes each one from the columns when it is asked for.

    Args:
        table: The columns of `ENTRY`, and maybe others.
        rows: Of the table, in the order of the sequence; all if absent.
    """

    def __init__(self, table: pa.Table, rows: npt.NDArray[np.integer[Any]] | None = None) -> None:
        self._table = table.select(ENTRY.names)
        self._rows = rows

    def __len__(self) -> int:
        return self._table.num_rows if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> "Entries": ...
    def __getitem__(self, index: int | slice) -> "Entry | Entries":
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if self._rows is None and step == 1:
                return Entries(self._table.slice(start, max(0, stop - start)))
            return self.take(np.arange(start, stop, step))
        if not -len(self) <= index < len(self):
            msg = f"entry {index} of {len(self)}"
            raise IndexError(msg)
        return self._objects(index % len(self), 1)[0]

    def __iter__(self) -> Iterator[Entry]:
        for start in range(0, len(self), WINDOW):
            yield from self._objects(start, WINDOW)

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """The label of each entry."""
        labels = self._table.column("label").to_numpy()
        return labels if self._rows is None else labels[self._rows]

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "Entries":
        """Pick entries by position; nothing is copied but the positions."""
        return Entries(self._table, rows if self._rows is None else self._rows[rows])

    def _objects(self, start: int, count: int) -> list[Entry]:
        if self._rows is None:
            some = self._table.slice(start, count)
        else:
            some = self._table.take(pa.array(self._rows[start : start + count]))
        columns = [column.to_pylist() for column in some.cast(_PLAIN).columns]
        return [Entry(*values) for values in zip(*columns, strict=True)]


def whole(column: "pa.ChunkedArray[Any]") -> "pa.Array[Any]":
    """Give a column as one array, which is the one it consists of if it is one."""
    one: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return cast("pa.Array[Any]", one)


def codes_of(column: "pa.ChunkedArray[Any]") -> tuple[list[str], npt.NDArray[np.int32]]:
    """Give the different texts of a column, and for each row the position of its own among them."""
    encoded: Any = whole(column).dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


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
    text = bytearray()  # it grows in place, where joining pieces would need all of them twice
    ends = np.zeros(len(entries) + 1, np.int64)
    for start in range(0, len(entries), WINDOW):
        names = [name.encode() for name in dataset.released_names(list(entries[start : start + WINDOW]), lossless)]
        ends[start + 1 : start + 1 + len(names)] = len(text) + np.cumsum([len(name) for name in names])
        text += b"".join(names)
    column: pa.Array[Any] = pa.LargeStringArray.from_buffers(len(entries), pa.py_buffer(ends.data), pa.py_buffer(text))
    return column


def is_numbered(listing: pa.Table) -> bool:
    """Whether images have no names of their own, only rows of a file."""
    parts = (listing.slice(start, WINDOW) for start in range(0, len(listing), WINDOW))
    return all(pc.all(pc.equal(part.column("name"), _numbered(part, part.column("row")))).as_py() for part in parts)


def moved_up(listing: pa.Table, names: "pa.Array[Any]", kept: npt.NDArray[np.bool_]) -> "pa.Array[Any]":
    """Correct released names for what is left out: numbered images behind it move up in their file.

    Args:
        listing: The columns of `ENTRY`, file by file.
        names: Name of each image in a release that leaves none out.
        kept: Which images are released; the others keep the name they would have had.
    """
    if kept.all() or not is_numbered(listing):
        return names
    _, shard = codes_of(listing.column("shard"))
    _, first = np.unique(shard, return_index=True)
    kept_before = np.cumsum(kept, dtype=np.int64) - kept
    numbered = _numbered(listing, pa.chunked_array([kept_before - kept_before[first[shard]]])).combine_chunks()
    result: pa.Array[Any] = pc.if_else(pa.array(kept), numbered, names)
    return result


def _numbered(listing: pa.Table, rows: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    parts: list[Any] = [listing.column("shard").cast(TEXT), rows.cast(TEXT), pa.scalar("#", TEXT)]
    joined: pa.ChunkedArray[Any] = pc.binary_join_element_wise(*parts)
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
