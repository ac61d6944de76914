"""Class folders of image files: `root/<class>/**/image`, or `root/<split>/<class>/**/image`.

A split is a top folder named like one (`train`, `test`, `val`, ...) that holds class folders; without splits every top
folder that holds images is a class. Classes are sorted by name, as trainers number them, over all splits together.
Hidden files, files that are not named like images and images outside of class folders are no part of the dataset.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from withhold.data import pixels
from withhold.data.atomic import write_atomic
from withhold.data.dataset import Entry
from withhold.data.listing import (
    SPLITS,
    check_splits,
    irregular_names,
    is_image,
    released_format,
    released_name,
    walk,
)
from withhold.data.pixels import Picture
from withhold.data.place import Place, each
from withhold.errors import InvalidInput, RunStopped


class FolderDataset:
    """Images in class folders.

    Raises:
        InvalidInput: There are no class folders, split folders are mixed with others, or a split is not there.
    """

    layout = "folder"
    random_access = True

    def __init__(self, root: Place, splits: Sequence[str] = ()) -> None:
        self.root = root
        images = {_place(path) for path in walk(root) if is_image(path)}
        self._splits = _find_splits(root, images, splits)
        names = {place.split("/")[1] for place in images if place.count("/") and place.split("/")[0] in self._splits}
        if not self._splits:
            names = {place.split("/")[0] for place in images if place}
        if not names:
            msg = (
                f"expected images in one folder per class under {root}, found none; sort the images into class folders"
            )
            raise InvalidInput(msg)
        self.classes = tuple(sorted(names))
        self._irregular: dict[tuple[str, str], dict[str, str]] = {}

    def entries(self) -> Iterator[Entry]:
        """Yield the images sorted by path."""
        labels = {name: index for index, name in enumerate(self.classes)}
        for path in walk(self.root):
            if owner := self._owner(path):
                split, name = owner
                yield Entry(path, labels[name], path, 0, split)

    def ignored(self) -> list[str]:
        """Name the files that are no images of a class in the chosen splits, and empty folders."""
        return [path for path in walk(self.root) if not self._owner(path)]

    def read(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """Yield the images' files.

        Raises:
            RunStopped: A file is gone or may not be read.
        """
        yield from each(self.root, self._read, entries)

    def decode(self, stored: bytes) -> Picture:
        """Decode an image file."""
        return pixels.decode(stored)

    def released_names(self, entries: Sequence[Entry], lossless: str) -> list[str]:
        """Swap lossy suffixes for the lossless one, so that no two images of a folder share a name."""
        return [self._released_name(entry.name, lossless) for entry in entries]

    def writer(self, destination: Place, spool: Path, lossless: str) -> "FolderWriter":  # noqa: ARG002 (needs no spool)
        """Open a writer of class folders."""
        return FolderWriter(self, destination, lossless)

    def _read(self, entry: Entry) -> bytes:
        try:
            return (self.root / entry.name).read_bytes()
        except OSError as error:
            msg = f"cannot read {self.root / entry.name}: {error.strerror}; restore or remove it, then run again"
            raise RunStopped(msg) from error

    def _owner(self, path: str) -> tuple[str, str] | None:
        """Split and class of an image; None for a file that is no part of the dataset."""
        parts = path.split("/")
        if not is_image(path):
            return None
        if not self._splits:
            return ("", parts[0]) if len(parts) > 1 else None
        return (parts[0], parts[1]) if len(parts) > 2 and parts[0] in self._splits else None  # noqa: PLR2004

    def _released_name(self, name: str, lossless: str) -> str:
        folder = str(PurePosixPath(name).parent)
        key = (folder, lossless)
        if key not in self._irregular:  # only the exceptions are kept: for most folders there are none
            inside = (self.root / folder).iterdir()
            images = [path.name for path in inside if is_image(path.name) and not path.name.startswith(".")]
            self._irregular[key] = irregular_names(images, lossless)
        exception = self._irregular[key].get(PurePosixPath(name).name)
        return f"{folder}/{exception}" if exception else released_name(name, lossless)


class FolderWriter:
    """Writes every image as a file of its own, at its final place at once."""

    def __init__(self, dataset: FolderDataset, destination: Place, lossless: str) -> None:
        self._dataset = dataset
        self._destination = destination
        self._lossless = lossless

    def encode(self, entry: Entry, picture: Picture) -> bytes:
        """Encode in the file's own format if that is lossless, otherwise in the chosen one."""
        return pixels.encode(picture, released_format(entry.name, self._lossless))

    def write(self, batch: int, images: Sequence[tuple[Entry, bytes]]) -> None:  # noqa: ARG002 (files know their place)
        """Write one file per image."""
        names = self._dataset.released_names([entry for entry, _ in images], self._lossless)
        files = zip(names, (content for _, content in images), strict=True)
        for _ in each(self._destination, self._write, files):
            pass

    def _write(self, file: tuple[str, bytes]) -> None:
        name, content = file
        write_atomic(self._destination / name, content)

    def assemble(self, entries: Sequence[Entry]) -> None:
        """Do nothing: every file is at its place."""


def _place(path: str) -> str:
    """Keep the first two folders of a path, all that tells splits and classes: few values even for many images."""
    return "/".join(path.split("/")[:-1][:2])


def _find_splits(root: Place, places: set[str], wanted: Sequence[str]) -> frozenset[str]:
    """Decide which top folders are splits; none if top folders are classes."""
    tops = {place.split("/")[0] for place in places if place}
    named = {top for top in tops if top.lower() in SPLITS}
    if wanted:
        check_splits(wanted, named)
        return frozenset(wanted)
    if named == tops:
        return frozenset(named)
    # `train` may also be a class of vehicles: then it holds images itself.
    if nested := sorted(named - places):
        others = ", ".join(sorted(tops - named)[:3])
        found = f"splits ({', '.join(nested)}) beside other folders ({others})"
        msg = f"{root} holds {found}: name the splits to take, or move the other folders out"
        raise InvalidInput(msg)
    return frozenset()
