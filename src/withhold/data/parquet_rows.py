"""Rows of one Parquet file: reading images in bounded memory, and rewriting the file with other images."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from withhold.data.listing import is_image
from withhold.data.spool import ShardImages
from withhold.errors import RunStopped

_ROWS = 32  # images decompressed at once
_BUFFER = 1 << 20  # bytes of a column read at once; otherwise a row group, which may be the whole file, is read


class ImageCursor:
    """Reads images of one file in ascending order; going back costs a new start at the row group."""

    def __init__(self, path: Path, column: str) -> None:
        self.path = path
        self._column = column
        self._file = pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        self._starts = _group_starts(self._file)
        self._pieces: Iterator[tuple[int, list[Any]]] = iter(())
        self._current: tuple[int, list[Any]] = (self._file.metadata.num_rows, [])

    def take(self, rows: Sequence[int]) -> Mapping[int, bytes | None]:
        """Read rows given in ascending order; None for a row without bytes.

        Raises:
            RunStopped: The file is damaged or gone.
        """
        try:
            return {row: self._take(row) for row in rows}
        except (pa.ArrowException, OSError) as error:
            msg = f"cannot read rows {rows[0]} to {rows[-1]} of {self.path} ({error}); restore the file, then run again"
            raise RunStopped(msg) from error

    def _take(self, row: int) -> bytes | None:
        start, images = self._current
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if row < start or self._starts[group] > start + len(images):
            self._pieces = self._read(group)
            start, images = self._starts[group], []
        while row >= start + len(images):
            start, images = self._current = next(self._pieces)
        image = images[row - start]
        content: bytes | None = image and image["bytes"]
        return content

    def _read(self, group: int) -> Iterator[tuple[int, list[Any]]]:
        """Yield the images from a row group on, a few at a time, each time with the row of the first."""
        for number in range(group, self._file.num_row_groups):
            row = self._starts[number]
            columns = [f"{self._column}.bytes"]
            for batch in self._file.iter_batches(_ROWS, row_groups=[number], columns=columns, use_threads=False):
                yield row, batch.column(0).to_pylist()
                row += batch.num_rows


def write_shard(source: Path, column: str, images: ShardImages, target: BinaryIO) -> None:
    """Rewrite a file with other images, row group by row group; rows that `images` lacks are left out."""
    with (
        pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file,
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
