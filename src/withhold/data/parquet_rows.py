"""Rows of one Parquet file: reading images in bounded memory, and rewriting the file with other images."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from withhold.data.listing import is_image
from withhold.data.place import Place, seekable
from withhold.data.reading import Fetched, unreadable_shard
from withhold.data.spool import ShardImages

_ROWS = 32  # images decompressed at once
_KEPT_ROWS = 4096 + _ROWS  # crafting draws its batches, one after the other, from as many neighbours
_KEPT_BYTES = 256 << 20
_BUFFER = 1 << 20  # bytes of a column read at once; otherwise a row group, which may be the whole file, is read


class ImageCursor:
    """Reads images of one file in ascending order, and keeps the last ones read.

    Batches drawn from neighbours therefore cost one pass over these, not one for each batch. Going back further than
    what is kept costs a new start at the row group.
    """

    def __init__(self, path: Place, column: str) -> None:
        self.path = path
        self._column = column
        self._file = pq.ParquetFile(seekable(path), buffer_size=_BUFFER, pre_buffer=False)
        self._starts = _group_starts(self._file)
        self._ends = [*self._starts[1:], self._file.metadata.num_rows]
        self._kept: OrderedDict[int, bytes | None] = OrderedDict()
        self._kept_bytes = 0
        self._damaged: dict[int, tuple[int, Exception]] = {}  # first row of a row group that cannot be read, and why
        self._group, self._next = len(self._starts), 0  # in no row group yet
        self._pieces: Iterator[list[bytes | None]] = iter(())

    def take(self, rows: Sequence[int]) -> Mapping[int, Fetched]:
        """Read rows given in ascending order."""
        return {row: self._take(row) for row in rows}

    def _take(self, row: int) -> Fetched:
        if row not in self._kept:
            group = bisect_right(self._starts, row) - 1
            if row < self._first_damaged(group):
                self._go_to(group, row)
            if row not in self._kept:
                return unreadable_shard(self.path, self._damaged[group][1], f"row {row} of ")
        return self._kept[row]

    def _first_damaged(self, group: int) -> float:
        return self._damaged[group][0] if group in self._damaged else float("inf")

    def _go_to(self, group: int, row: int) -> None:
        if group != self._group or row < self._next:
            if group > self._group and self._ends[self._group] - self._next <= _KEPT_ROWS:
                self._read_to(self._ends[self._group] - 1)  # the batches that follow want what this one left out
            self._group, self._next, self._pieces = group, self._starts[group], self._read(group)
        self._read_to(row)

    def _read_to(self, row: int) -> None:
        """Keep what lies ahead in the row group up to a row, or note from where on it is damaged."""
        try:
            while self._next <= row:
                self._keep(next(self._pieces))
        except (pa.ArrowException, OSError, StopIteration) as error:
            self._damaged.setdefault(self._group, (self._next, error))

    def _read(self, group: int) -> Iterator[list[bytes | None]]:
        """Yield the images of a row group, a few at a time."""
        columns = [f"{self._column}.bytes"]
        for batch in self._file.iter_batches(_ROWS, row_groups=[group], columns=columns, use_threads=False):
            yield [image and image["bytes"] for image in batch.column(0).to_pylist()]

    def _keep(self, images: Sequence[bytes | None]) -> None:
        for row, image in enumerate(images, self._next):
            self._kept_bytes += len(image or b"") - len(self._kept.pop(row, None) or b"")
            self._kept[row] = image
        self._next += len(images)
        while len(self._kept) > len(images) and (len(self._kept) > _KEPT_ROWS or self._kept_bytes > _KEPT_BYTES):
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest or b"")


def write_shard(source: Place, column: str, images: ShardImages, target: BinaryIO) -> None:
    """Rewrite a file with other images, row group by row group; rows that `images` lacks are left out."""
    with (
        pq.ParquetFile(seekable(source), buffer_size=_BUFFER, pre_buffer=False) as file,
        pq.ParquetWriter(target, file.schema_arrow, **_storage(file.metadata)) as writer,
    ):
        schema = file.schema_arrow
        others = [f"{column}.path", *(name for name in schema.names if name != column)]
        starts = _group_starts(file)
        for number, start in enumerate(starts):
            kept = file.read_row_group(number, columns=others, use_threads=False)
            rows = [row for row in range(start, start + kept.num_rows) if row in images]
            kept = kept.take(pa.array([row - start for row in rows], pa.int64()))
            paths = [image["path"] if image else None for image in kept.column(column).to_pylist()]
            released = _image_column(schema.field(column).type, paths, rows, images)
            columns = [released if name == column else kept.column(name) for name in schema.names]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=max(len(rows), 1))


def _image_column(
    kind: pa.StructType, paths: Sequence[str | None], rows: Sequence[int], images: ShardImages
) -> "pa.ChunkedArray[Any]":
    """Build the struct column in small chunks: one chunk of `binary` cannot hold more than 2 GB."""
    chunks: list[Any] = [pa.array([], type=kind)]
    for begin in range(0, len(rows), _ROWS):
        contents = [images[row] for row in rows[begin : begin + _ROWS]]
        before = paths[begin : begin + _ROWS]
        values = [{"bytes": new, "path": released_path(old, new)} for old, new in zip(before, contents, strict=True)]
        chunks.append(pa.array(values, type=kind))
    return pa.chunked_array(chunks)


def released_path(path: str | None, content: bytes) -> str | None:
    r"""Give a path the suffix of what its image has become; a path without an image's suffix stays.

    >>> released_path("cat/a.JPEG", b"\x89PNG")
    'cat/a.png'
    """
    suffix = ".webp" if content.startswith(b"RIFF") else ".png"
    if path is None or not is_image(path) or path.lower().endswith(suffix):
        return path
    return path[: -len(PurePosixPath(path).suffix)] + suffix


def _storage(metadata: pq.FileMetaData) -> dict[str, Any]:
    """Read how the columns are compressed and which are dictionaries, as the writer wants to be told."""
    if not metadata.num_row_groups:
        return {}
    group = metadata.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    names = {"UNCOMPRESSED": "NONE", "LZ4_RAW": "LZ4"}
    return {
        "compression": {chunk.path_in_schema: names.get(chunk.compression, chunk.compression) for chunk in chunks},
        "use_dictionary": [chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page],
    }


def _group_starts(file: pq.ParquetFile) -> list[int]:
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    return [0, *accumulate(sizes)][:-1]
