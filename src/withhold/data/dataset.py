"""What a labelled image dataset is, whatever its layout: entries to read, and a writer that mirrors them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from withhold.data.pixels import Picture
from withhold.data.place import Place

RELEASE_DOCUMENT = "release.json"
"""File that a release holds beside its images; by it a folder is known to be one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a dataset, without its pixels.

    Attributes:
        name: Unique within the dataset and stable: `cat/001.jpg`, `train.parquet#17`, `shard-0.tar#000017.jpg`.
        label: Index into the dataset's `classes`.
        shard: File that holds the image, relative to the root; for class folders the image file itself.
        row: Position within the shard; 0 for class folders.
        split: `train`, `test`, ... where the layout has splits, otherwise empty.
    """

    name: str
    label: int
    shard: str
    row: int
    split: str = ""


class Dataset(Protocol):
    """A labelled image dataset whose images can be read one by one; only entries are ever held in memory."""

    layout: str
    classes: tuple[str, ...]
    random_access: bool
    """Whether any image is cheap to read at any time; otherwise only neighbours within a shard are."""

    @property
    def root(self) -> Place:
        """Where it is."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Yield every image in the dataset's own order."""
        ...

    def ignored(self) -> Sequence[str]:
        """Name the files under the root that are no part of the dataset and will not be released."""
        ...

    def read(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the stored bytes of these images, in the order asked for. One thread at a time."""
        ...

    def decode(self, stored: bytes) -> Picture:
        """Turn stored bytes into pixels. Safe in any thread.

        Raises:
            UnreadableImage: The bytes are no complete still picture.
        """
        ...

    def released_names(self, entries: Sequence[Entry], lossless: str) -> list[str]:
        """Name each entry as it will be called in the release; each name depends on its entry and the files beside it.

        Where images are only numbered (`train.parquet#17`) the name is that of a release which leaves no image out.

        Args:
            lossless: `png` or `webp`.
        """
        ...

    def writer(self, destination: Place, spool: Path, lossless: str) -> "Writer":
        """Open a writer of this layout that builds the release in `destination`, with `spool` for its own use.

        Both are folders, made when needed; what the spool holds stays on this disk. A dataset that is a single file is
        released as a folder holding that file.
        """
        ...


class Writer(Protocol):
    """Writes the protected copy of one dataset, in its layout."""

    def encode(self, entry: Entry, picture: Picture) -> bytes:
        """Turn pixels into the bytes that the layout stores for this image, losslessly. Safe in any thread.

        Raises:
            InvalidInput: The format cannot hold the picture; see `pixels.storable`.
        """
        ...

    def write(self, batch: int, images: Sequence[tuple[Entry, bytes]]) -> None:
        """Store one batch of finished images, durably; each file appears whole or not at all, and again is the same."""
        ...

    def assemble(self, entries: Sequence[Entry]) -> None:
        """Build what is left to build once every batch was written (shards); does nothing twice.

        Images that are not among `entries` are left out of the shards, with all that belongs to them.
        """
        ...
