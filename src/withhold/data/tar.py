"""WebDataset: tar shards in which the files of one sample share a name up to its first dot.

The image is the member named like one, the label stands in `.cls` (an integer as text) or in `.json` under `label`.
A sample has exactly one image: a second one, a mask for example, would be either changed or released unprotected.
Everything but the images is taken over byte for byte, with its order, times and owners. Hidden members (`._0001.jpg`,
as macOS adds them) are left out.
"""

import copy
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from withhold.data import pixels
from withhold.data.dataset import Entry
from withhold.data.listing import find_shards, in_splits, is_image, released_format, released_name, split_of, walk
from withhold.data.pixels import Picture
from withhold.data.spool import ShardImages, ShardWriter
from withhold.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class _Sample:
    """The image of one sample: where it lies in the shard, and its label as written."""

    member: str
    offset: int
    size: int
    label: int


class TarDataset:
    """Images in WebDataset shards: a folder of `*.tar`, or one of them.

    Raises:
        InvalidInput: A shard is broken, a sample has no label or several images, or a split is not there.
    """

    layout = "webdataset"
    random_access = False

    def __init__(self, root: Path, splits: Sequence[str] = ()) -> None:
        self.root = root
        self._base, found = find_shards(root, ".tar")
        self._shards = in_splits(found, splits)
        self._loaded: tuple[str, list[_Sample]] = ("", [])
        labels = sorted({sample.label for shard in self._shards for sample in self._samples(shard)})
        if not labels:
            msg = f"expected images in the tar shards of {root}, found none; point to shards with .jpg or .png members"
            raise InvalidInput(msg)
        self.classes = tuple(map(str, labels))

    def entries(self) -> Iterator[Entry]:
        """Yield the images shard by shard, in the order of their members."""
        indices = {name: index for index, name in enumerate(self.classes)}
        for shard in self._shards:
            for row, sample in enumerate(self._samples(shard)):
                yield Entry(f"{shard}#{sample.member}", indices[str(sample.label)], shard, row, split_of(shard))

    def ignored(self) -> list[str]:
        """Name the files that are no shards of the chosen splits."""
        if self.root.is_file():
            return []
        return [path for path in walk(self.root) if path not in set(self._shards)]

    def read(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the image members' contents."""
        for entry in entries:
            sample = self._samples(entry.shard)[entry.row]
            with (self._base / entry.shard).open("rb") as file:
                file.seek(sample.offset)
                yield file.read(sample.size)

    def decode(self, stored: bytes) -> Picture:
        """Decode an image file."""
        return pixels.decode(stored)

    def released_names(self, entries: Sequence[Entry], lossless: str) -> list[str]:
        """Swap lossy suffixes for the lossless one; as samples have one image each, no two can meet."""
        return [released_name(entry.name, lossless) for entry in entries]

    def writer(self, destination: Path, spool: Path, lossless: str) -> ShardWriter:
        """Open a writer of tar shards."""

        def encode(entry: Entry, picture: Picture) -> bytes:
            return pixels.encode(picture, released_format(entry.name, lossless))

        def rebuild(shard: str, images: ShardImages, file: BinaryIO) -> None:
            self._rebuild(shard, images, file, lossless)

        return ShardWriter(self._base, destination, spool, self._shards, encode, rebuild)

    def _samples(self, shard: str) -> list[_Sample]:
        """List a shard's images; the list of one shard is kept."""
        if self._loaded[0] != shard:
            self._loaded = (shard, _samples(self._base / shard))
        return self._loaded[1]

    def _rebuild(self, shard: str, images: ShardImages, file: BinaryIO, lossless: str) -> None:
        rows = {sample.member: row for row, sample in enumerate(self._samples(shard))}
        left_out = {_key(member) for member, row in rows.items() if row not in images}
        with (
            tarfile.open(self._base / shard) as source,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as target,
        ):
            for member in source:
                if _is_hidden(member.name) or _key(member.name) in left_out:
                    continue
                if member.name in rows:
                    content = images[rows[member.name]]
                    target.addfile(
                        _replaced(member, released_name(member.name, lossless), content), io.BytesIO(content)
                    )
                else:
                    target.addfile(member, source.extractfile(member) if member.isreg() else None)


def _samples(path: Path) -> list[_Sample]:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as source:
            for member in source:
                key = _key(member.name)
                if _is_hidden(member.name) or member.isdir():
                    continue
                if is_image(member.name):
                    _check_image(path, member, images.get(key))
                    images[key] = member
                elif (label := _label(source, member)) is not None and (key not in labels or _is_class_file(member)):
                    labels[key] = label
    except (tarfile.TarError, EOFError) as error:
        msg = f"{path} is not a complete, uncompressed tar file ({error}); replace or unpack it"
        raise InvalidInput(msg) from error
    if unlabelled := [member.name for key, member in images.items() if key not in labels]:
        msg = (
            f"{path} holds {len(unlabelled)} images without a label, such as {unlabelled[0]}; add .cls or .json members"
        )
        raise InvalidInput(msg)
    return [_Sample(member.name, member.offset_data, member.size, labels[key]) for key, member in images.items()]


def _check_image(path: Path, member: tarfile.TarInfo, other: tarfile.TarInfo | None) -> None:
    if other is not None:
        msg = f"{path} holds a sample with two images, {other.name} and {member.name}; keep one image per sample"
        raise InvalidInput(msg)
    if not member.isreg() or member.issparse():
        msg = f"{member.name} in {path} is a link or sparse; store the image itself"
        raise InvalidInput(msg)
    if not member.name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in member.name):
        msg = f"the name {member.name!r} in {path} is not valid UTF-8; rename the member"
        raise InvalidInput(msg)


def _label(source: tarfile.TarFile, member: tarfile.TarInfo) -> int | None:
    """Read the label off a `.cls` or `.json` member; None for other members and for `.json` without a label."""
    is_json = member.name.lower().endswith(".json")
    if not (is_json or _is_class_file(member)) or (file := source.extractfile(member)) is None:
        return None
    try:
        content = json.loads(file.read())
        label = content.get("label") if is_json else content
    except (ValueError, AttributeError):
        label = "unreadable text"
    if label is None or (isinstance(label, int) and not isinstance(label, bool) and label >= 0):
        return label
    msg = f"expected a class number of at least 0 in {member.name} of {source.name!r}, got {label!r}"
    raise InvalidInput(msg)


def _is_class_file(member: tarfile.TarInfo) -> bool:
    return member.name.lower().endswith(".cls")


def _key(name: str) -> str:
    """Name of a member's sample: up to the first dot of its last part."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.split(".")[0])


def _is_hidden(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".")


def _replaced(member: tarfile.TarInfo, name: str, content: bytes) -> tarfile.TarInfo:
    """Keep a member's owner, time and mode under a new name and size."""
    new = copy.copy(member)
    new.name, new.size = name, len(content)
    # Extended headers take precedence over the plain ones and would still tell of the original.
    new.pax_headers = {key: value for key, value in member.pax_headers.items() if key not in {"path", "size"}}
    return new
