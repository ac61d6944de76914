"""The official CIFAR-10 and CIFAR-100 batches for Python, in their folder or in the folder above it.

The label of CIFAR-100 is the fine one; the coarse one is kept. The stored bytes of an image are its 3072 bytes: 32 x 32
red levels, then green, then blue.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from withhold.data import cifar_pickle
from withhold.data.dataset import Entry
from withhold.data.listing import check_splits, walk
from withhold.data.pixels import Picture, UnreadableImage
from withhold.data.place import Place
from withhold.data.reading import read_sharded, reading_from
from withhold.data.spool import ShardImages, ShardWriter
from withhold.errors import InvalidInput

_SIDE = 32
_BYTES = 3 * _SIDE * _SIDE
_DATA = b"data"


@dataclass(frozen=True, slots=True)
class _Variant:
    """File and key names of one official set."""

    folder: str
    splits: Mapping[str, str]
    meta: str
    class_names: bytes
    labels: bytes
    notes: str


_VARIANTS = (
    _Variant(
        "cifar-10-batches-py",
        {**{f"data_batch_{i}": "train" for i in range(1, 6)}, "test_batch": "test"},
        "batches.meta",
        b"label_names",
        b"labels",
        "readme.html",
    ),
    _Variant(
        "cifar-100-python",
        {"train": "train", "test": "test"},
        "meta",
        b"fine_label_names",
        b"fine_labels",
        "file.txt~",
    ),
)


def find_cifar(root: Place) -> list[tuple[_Variant, str]]:
    """Find the official sets in a folder: which, and at what path prefix."""
    return [
        (variant, prefix)
        for variant in _VARIANTS
        for prefix in ("", f"{variant.folder}/")
        if (root / f"{prefix}{variant.meta}").is_file()
        and any((root / f"{prefix}{name}").is_file() for name in variant.splits)
    ]


class CifarDataset:
    """Images in official CIFAR batches.

    Raises:
        InvalidInput: A file is missing, broken or asks for code to be run, or a split is not there.
    """

    layout = "cifar"
    random_access = False

    def __init__(self, root: Place, splits: Sequence[str] = ()) -> None:
        found = find_cifar(root)
        if len(found) != 1:
            names = " and ".join(variant.folder for variant, _ in found) or "none"
            msg = f"expected one official CIFAR set in {root}, got {names}; name the folder of one"
            raise InvalidInput(msg)
        self.root = root
        self._variant, self._prefix = found[0]
        there = {name: split for name, split in self._variant.splits.items() if (root / self._prefix / name).is_file()}
        check_splits(splits, there.values())
        self._shards = {
            f"{self._prefix}{name}": split for name, split in there.items() if not splits or split in splits
        }
        meta = cifar_pickle.load(root / self._prefix / self._variant.meta)
        names = _value(meta, self._variant.class_names, root / self._prefix / self._variant.meta)
        self.classes = tuple(name.decode() if isinstance(name, bytes) else name for name in names)
        self._loaded: tuple[str, dict[Any, Any]] = ("", {})

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without the batch that is in memory."""
        return {**self.__dict__, "_loaded": ("", {})}

    def entries(self) -> Iterator[Entry]:
        """Yield the images in the official order, training batches first."""
        for shard, split in self._shards.items():
            labels = _value(self._load(shard), self._variant.labels, self.root / shard)
            for row, label in enumerate(labels):
                yield Entry(f"{shard}#{row}", int(label), shard, row, split)

    def ignored(self) -> list[str]:
        """Name the files that do not belong to the official set or to the chosen splits."""
        known = {*self._shards, *self._copied()}
        return [path for path in walk(self.root) if path not in known]

    def read(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the 3072 bytes of each image.

        Raises:
            RunStopped: A batch is damaged or gone.
        """
        return read_sharded(entries, self._fetch)

    def decode(self, stored: bytes) -> Picture:
        """Arrange the bytes of one image.

        Raises:
            UnreadableImage: They are not 3072.
        """
        if len(stored) != _BYTES:
            msg = f"expected {_BYTES} bytes, got {len(stored)}; download the set again"
            raise UnreadableImage(msg)
        planes = np.frombuffer(stored, np.uint8).reshape(3, _SIDE, _SIDE)
        return Picture(np.ascontiguousarray(planes.transpose(1, 2, 0)))

    def released_names(self, entries: Sequence[Entry], lossless: str) -> list[str]:  # noqa: ARG002 (stored as they are)
        """Keep the names; where rows are left out, those behind them move up."""
        return [entry.name for entry in entries]

    def writer(self, destination: Place, spool: Path, lossless: str) -> ShardWriter:  # noqa: ARG002 (stored as they are)
        """Open a writer of batches with the same keys."""
        shards = list(self._shards)
        return ShardWriter(self.root, destination, spool, shards, _encode, self._rebuild, self._copied())

    def _copied(self) -> list[str]:
        names = (self._variant.meta, self._variant.notes)
        return [f"{self._prefix}{name}" for name in names if (self.root / self._prefix / name).is_file()]

    def _load(self, shard: str) -> dict[Any, Any]:
        """Load a batch and keep it until the next one: 30 MB, or 150 MB for the training images of CIFAR-100."""
        if self._loaded[0] != shard:
            self._loaded = ("", {})  # let go before loading, so that two are never held at once
            content = cifar_pickle.load(self.root / shard)
            self._check(content, self.root / shard)
            self._loaded = (shard, content)
        return self._loaded[1]

    def _check(self, content: Mapping[Any, Any], path: Place) -> None:
        data = _value(content, _DATA, path)
        labels = _value(content, self._variant.labels, path)
        if not isinstance(data, np.ndarray) or data.shape != (len(labels), _BYTES):
            shape = getattr(data, "shape", type(data).__name__)
            msg = f"expected data of shape {(len(labels), _BYTES)} in {path}, got {shape}; download the set again"
            raise InvalidInput(msg)
        for row, label in enumerate(labels):
            if not isinstance(label, int) or not 0 <= label < len(self.classes):
                msg = f"expected labels of 0 to {len(self.classes) - 1} in {path}, got {label!r} for image {row}"
                raise InvalidInput(msg)

    def _fetch(self, shard: str, rows: Sequence[int]) -> dict[int, bytes]:
        with reading_from(self.root / shard, IndexError):
            data = self._load(shard)[_DATA]
            return {row: data[row].tobytes() for row in rows}

    def _rebuild(self, shard: str, images: ShardImages, file: BinaryIO) -> None:
        content = self._load(shard)
        count = len(content[_DATA])
        data = np.empty((len(images.rows), _BYTES), np.uint8)
        for place, row in enumerate(images.rows):
            data[place] = np.frombuffer(images[int(row)], np.uint8)
        kept = {key: data if key == _DATA else _rows(value, images.rows, count) for key, value in content.items()}
        cifar_pickle.dump(kept, file)


def _value(content: Mapping[Any, Any], key: bytes, path: Place) -> Any:  # noqa: ANN401 (a pickle holds anything)
    if key not in content:
        msg = f"expected {key.decode()} in {path}, which holds {', '.join(map(str, content))}; download the set again"
        raise InvalidInput(msg)
    return content[key]


def _rows(value: object, rows: np.ndarray, count: int) -> object:
    """Keep the released images' items of what the batch lists for every image."""
    return [value[row] for row in rows] if isinstance(value, list) and len(value) == count else value


def _encode(entry: Entry, picture: Picture) -> bytes:
    """Lay out one image as its batch stores it."""
    if picture.mode != "RGB" or picture.levels.shape[:2] != (_SIDE, _SIDE):
        msg = f"expected an RGB image of {_SIDE} x {_SIDE} for {entry.name}, got {picture.mode} {picture.levels.shape}"
        raise InvalidInput(msg)
    return picture.levels.transpose(2, 0, 1).tobytes()
