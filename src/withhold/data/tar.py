"""WebDataset: tar shards in which the files of one sample share a name up to its first dot.

The image is the member named like one, the label stands in `.cls` (an integer as text) or in `.json` under `label`.
A sample has exactly one image: a second one, a mask for example, would be either changed or released unprotected.
Everything but the images is taken over byte for byte, with its order, times and owners, and therefore must not hold
images under another name. Hidden members (`._0001.jpg`, as macOS adds them) are left out.
"""

import contextlib
import copy
import io
import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from withhold.data import pixels
from withhold.data.dataset import Entry
from withhold.data.listing import find_shards, in_splits, released_format, released_name, split_of, walk
from withhold.data.pixels import Picture
from withhold.data.place import Place, each, read_part
from withhold.data.reading import reading_from
from withhold.data.spool import ShardImages, ShardWriter
from withhold.data.tar_index import is_hidden, read_index, sample_key
from withhold.errors import InvalidInput, RunStopped

_INDICES = 16  # shards whose contents are remembered, so that reading in any order does not list them again


class TarDataset:
    """Images in WebDataset shards: a folder of `*.tar`, or one of them.

    Raises:
        InvalidInput: A shard is broken, a sample has no label or several images, an image is named like none, or a
            split is not there.
    """

    layout = "webdataset"
    random_access = False

    def __init__(self, root: Place, splits: Sequence[str] = ()) -> None:
        self.root = root
        self._base, found = find_shards(root, ".tar")
        self._shards = in_splits(found, splits)
        self._remember_indices()
        labels = sorted({label for shard in self._shards for label in self._index(shard).labels})
        if not labels:
            msg = f"expected images in the tar shards of {root}, found none; point to shards with .jpg or .png members"
            raise InvalidInput(msg)
        self.classes = tuple(map(str, labels))

    def _remember_indices(self) -> None:
        self._index = lru_cache(_INDICES)(lambda shard: read_index(self._base / shard))

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without what is remembered of the shards."""
        return {name: value for name, value in self.__dict__.items() if name != "_index"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive there."""
        self.__dict__.update(state)
        self._remember_indices()

    def entries(self) -> Iterator[Entry]:
        """Yield the images shard by shard, in the order of their members."""
        indices = {name: index for index, name in enumerate(self.classes)}
        for shard in self._shards:
            index = self._index(shard)
            for row, (member, label) in enumerate(zip(index.members, index.labels, strict=True)):
                yield Entry(f"{shard}#{member}", indices[str(label)], shard, row, split_of(shard))

    def ignored(self) -> list[str]:
        """Name the files that are no shards of the chosen splits, and the hidden members of those that are."""
        shards = set(self._shards)
        files = [] if self.root.is_file() else [path for path in walk(self.root) if path not in shards]
        return files + [f"{shard}#{member}" for shard in self._shards for member in self._index(shard).hidden]

    def read(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the image members' contents.

        Raises:
            RunStopped: A shard is damaged or gone.
        """
        yield from each(self._base, self._read, self._listed(entries))

    def decode(self, stored: bytes) -> Picture:
        """Decode an image file."""
        return pixels.decode(stored)

    def released_names(self, entries: Sequence[Entry], lossless: str) -> list[str]:
        """Swap lossy suffixes for the lossless one; as samples have one image each, no two can meet."""
        return [released_name(entry.name, lossless) for entry in entries]

    def writer(self, destination: Place, spool: Path, lossless: str) -> ShardWriter:
        """Open a writer of tar shards."""
        encode, rebuild = partial(_encode, lossless), partial(self._rebuild, lossless)
        return ShardWriter(self._base, destination, spool, self._shards, encode, rebuild)

    def _listed(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        """Go through each shard before its first image is read, so that no two threads do; reading tells what fails."""
        for entry in entries:
            with contextlib.suppress(InvalidInput, RunStopped):
                self._index(entry.shard)
            yield entry

    def _read(self, entry: Entry) -> bytes:
        path = self._base / entry.shard
        with reading_from(path, IndexError):
            offset, size = self._index(entry.shard).places[entry.row].tolist()
            stored = read_part(path, offset, size)
        if len(stored) < size:
            msg = f"{entry.name} is cut off; restore the file, then run the same command again"
            raise RunStopped(msg)
        return stored

    def _rebuild(self, lossless: str, shard: str, images: ShardImages, file: BinaryIO) -> None:
        try:
            self._copy(shard, images, file, lossless)
        except tarfile.TarError as error:
            raise OSError(str(error)) from error  # the writer says what to do about it

    def _copy(self, shard: str, images: ShardImages, file: BinaryIO, lossless: str) -> None:
        rows = {member: row for row, member in enumerate(self._index(shard).members)}
        left_out = {sample_key(member) for member, row in rows.items() if row not in images}
        with (
            (self._base / shard).open("rb") as stored,
            tarfile.open(fileobj=stored) as source,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as target,
        ):
            for member in source:
                if is_hidden(member.name) or sample_key(member.name) in left_out:
                    continue
                if member.name in rows:
                    content = images[rows[member.name]]
                    target.addfile(
                        _replaced(member, released_name(member.name, lossless), content), io.BytesIO(content)
                    )
                else:
                    target.addfile(member, source.extractfile(member) if member.isreg() else None)


def _replaced(member: tarfile.TarInfo, name: str, content: bytes) -> tarfile.TarInfo:
    """Keep a member's owner, time and mode under a new name and size."""
    new = copy.copy(member)
    new.name, new.size = name, len(content)
    # Extended headers take precedence over the plain ones and would still tell of the original.
    new.pax_headers = {key: value for key, value in member.pax_headers.items() if key not in {"path", "size"}}
    return new


def _encode(lossless: str, entry: Entry, picture: Picture) -> bytes:
    return pixels.encode(picture, released_format(entry.name, lossless))
