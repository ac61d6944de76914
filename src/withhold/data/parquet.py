"""Parquet files in the Hugging Face layout: an `image` column of struct(bytes, path) and a label column.

The label is the column `label`, or else the only ClassLabel, or else `fine_label`; numbers or text. Class names come
from the metadata that the `datasets` library writes, otherwise they are the labels themselves, sorted. Other columns,
metadata, row groups and compression are kept; other columns that hold images are refused. Released images are all in
the chosen lossless format (PNG where WebP cannot hold the mode), and the suffix of `path` says so.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from withhold.data import pixels
from withhold.data.dataset import Entry
from withhold.data.listing import find_shards, in_splits, split_of, walk
from withhold.data.parquet_other_columns import is_image_struct, refuse_other_images
from withhold.data.parquet_rows import ImageCursor, write_shard
from withhold.data.pixels import Picture
from withhold.data.place import Place, seekable
from withhold.data.reading import Fetched, read_sharded, reading_from
from withhold.data.spool import ShardImages, ShardWriter
from withhold.errors import InvalidInput

_LABEL_ROWS = 65536  # labels read at once


@dataclass(frozen=True, slots=True)
class _Columns:
    """What a file's schema says: where images and labels are, and what the labels mean (None if it does not say)."""

    image: str
    label: str
    names: tuple[str, ...] | None


class ParquetDataset:
    """Images in Parquet: a folder of `*.parquet`, or one of them.

    Raises:
        InvalidInput: A file is broken, has no usable labels, other columns than the first or images in further columns,
            or a split is not there.
    """

    layout = "parquet"
    random_access = False

    def __init__(self, root: Place, splits: Sequence[str] = ()) -> None:
        self.root = root
        self._base, found = find_shards(root, ".parquet")
        self._shards = in_splits([shard for shard in found if has_images(self._base / shard)], splits)
        if not self._shards:
            msg = f"expected Parquet files with a column struct(bytes, path) in {root}, found none; embed the images"
            raise InvalidInput(msg)
        self._columns = self._same_columns()
        for shard in self._shards:
            refuse_other_images(self._base / shard, self._columns.image)
        self._labels = self._number_labels()
        self.classes = self._columns.names or tuple(map(str, self._labels))
        self._cursor: ImageCursor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without the file that is open."""
        return {**self.__dict__, "_cursor": None}

    def entries(self) -> Iterator[Entry]:
        """Yield the rows file by file."""
        for shard in self._shards:
            for row, label in enumerate(self._read_labels(shard)):
                if label not in self._labels:
                    known = f"one of {len(self.classes)} classes"
                    msg = f"expected {known} in {shard}, row {row}, got {label!r}; leave unlabelled rows or splits out"
                    raise InvalidInput(msg)
                yield Entry(f"{shard}#{row}", self._labels[label], shard, row, split_of(shard))

    def ignored(self) -> list[str]:
        """Name the files that are no shards of the chosen splits."""
        if self.root.is_file():
            return []
        shards = set(self._shards)
        return [path for path in walk(self.root) if path not in shards]

    def read(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the image files that rows hold.

        Raises:
            UnreadableImage: A row holds only the path of its image; those in front of it were yielded.
            RunStopped: A file is damaged or gone.
        """
        return read_sharded(entries, self._fetch)

    def decode(self, stored: bytes) -> Picture:
        """Decode an image file."""
        return pixels.decode(stored)

    def released_names(self, entries: Sequence[Entry], lossless: str) -> list[str]:  # noqa: ARG002 (rows have numbers)
        """Keep the names; where rows are left out, those behind them move up."""
        return [entry.name for entry in entries]

    def writer(self, destination: Place, spool: Path, lossless: str) -> ShardWriter:
        """Open a writer of Parquet files."""
        encode = partial(_encode, lossless)
        return ShardWriter(self._base, destination, spool, self._shards, encode, self._rebuild)

    def _same_columns(self) -> _Columns:
        first, *others = ((shard, _find_columns(self._base / shard)) for shard in self._shards)
        for shard, columns in others:
            if columns != first[1]:
                msg = (
                    f"{shard} and {first[0]} in {self.root} differ in image column, label column or class names;"
                    " name the splits to take, or move one of them out"
                )
                raise InvalidInput(msg)
        return first[1]

    def _number_labels(self) -> dict[Any, int]:
        """Map labels as stored to class indices."""
        if self._columns.names:
            return {index: index for index in range(len(self._columns.names))}
        values = {label for shard in self._shards for label in self._read_labels(shard)}
        unusable = {value for value in values if value is None or (isinstance(value, int) and value < 0)}
        return {label: index for index, label in enumerate(sorted(values - unusable))}

    def _read_labels(self, shard: str) -> Iterator[Any]:
        try:
            with pq.ParquetFile(seekable(self._base / shard)) as file:
                for batch in file.iter_batches(_LABEL_ROWS, columns=[self._columns.label]):
                    yield from batch.column(0).to_pylist()
        except (pa.ArrowException, OSError) as error:
            msg = f"cannot read the labels of {self._base / shard} ({error}); replace the file, or move it out"
            raise InvalidInput(msg) from error

    def _fetch(self, shard: str, rows: Sequence[int]) -> Mapping[int, Fetched]:
        path = self._base / shard
        if self._cursor is None or self._cursor.path != path:
            with reading_from(path, pa.ArrowException):
                self._cursor = ImageCursor(path, self._columns.image)
        return self._cursor.take(rows)

    def _rebuild(self, shard: str, images: ShardImages, file: BinaryIO) -> None:
        try:
            write_shard(self._base / shard, self._columns.image, images, file)
        except pa.ArrowException as error:
            raise OSError(str(error)) from error  # the writer says what to do about it


def _encode(lossless: str, _: Entry, picture: Picture) -> bytes:
    return pixels.encode(picture, "webp" if lossless == "webp" and pixels.storable(picture, "webp") else "png")


def has_images(path: Place) -> bool:
    """Say whether a Parquet file has a column of struct(bytes, path).

    Raises:
        InvalidInput: The file is no Parquet file.
    """
    return bool(_image_columns(_schema(path)))


def _schema(path: Place) -> pa.Schema:
    try:
        return pq.read_schema(seekable(path))
    except (pa.ArrowException, OSError) as error:
        msg = f"{path} is not a complete Parquet file ({error}); replace it, or move it out"
        raise InvalidInput(msg) from error


def _image_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if is_image_struct(field.type)]


def _find_columns(path: Place) -> _Columns:
    schema = _schema(path)
    images = _image_columns(schema)
    if len(images) != 1:
        msg = f"expected one image column in {path}, got {', '.join(images)}; drop those that shall not be protected"
        raise InvalidInput(msg)
    named = _class_names(schema.metadata or {})
    label = _label_column(schema.names, named)
    if label is None:
        msg = f"expected a label column in {path}, got {', '.join(schema.names)}; name the class column `label`"
        raise InvalidInput(msg)
    kind = schema.field(label).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and not pa.types.is_integer(kind):
        msg = f"expected labels in {path} as integers or text, got {label} of type {kind}; convert the column"
        raise InvalidInput(msg)
    return _Columns(images[0], label, None if is_text else named.get(label))


def _label_column(names: Sequence[str], named: Mapping[str, tuple[str, ...]]) -> str | None:
    if "label" in names:
        return "label"
    if len(named) == 1:
        return next(iter(named))
    return "fine_label" if "fine_label" in names else None


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Read the names of every ClassLabel column that the `datasets` library noted."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {
            column: tuple(feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, AttributeError, TypeError):
        return {}  # metadata is a courtesy: without it classes are called by their numbers
