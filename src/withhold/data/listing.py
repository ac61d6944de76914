"""File names: which files a dataset's folder holds, which are images, and what each is called once it is lossless."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from withhold.data.object_path import ObjectPath
from withhold.data.pixels import Lossless
from withhold.data.place import Place
from withhold.errors import InvalidInput

SHARD_SUFFIXES = {".parquet", ".tar"}
SPLITS = frozenset({"train", "test", "val", "valid", "validation", "dev"})
_LOSSY = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k"}
)
_KEPT: MappingProxyType[str, Lossless] = MappingProxyType(
    {".png": "png", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
)


def walk(root: Place) -> Iterator[str]:
    """Yield every file under a folder, hidden ones left out, as sorted paths relative to `root`.

    A folder with nothing in it is yielded too, with a slash at its end. Links are followed, as trainers follow them; a
    folder that links back to one it lies in is not entered again.

    Raises:
        InvalidInput: A name is not valid Unicode, or a folder cannot be read.
    """
    yield from _walk_any(root, hidden=False)


def walk_hidden(root: Place) -> Iterator[str]:
    """Yield the files that `walk` leaves out, because their name or that of a folder above them begins with a dot.

    Raises:
        InvalidInput: As `walk` does.
    """
    for path in _walk_any(root, hidden=True):
        if not path.endswith("/") and any(part.startswith(".") for part in path.split("/")):
            yield path


def _walk_any(root: Place, *, hidden: bool) -> Iterator[str]:
    return _walk(root, "", (), hidden=hidden) if isinstance(root, Path) else _walk_store(root, "", hidden=hidden)


def _walk_store(root: ObjectPath, below: str, *, hidden: bool) -> Iterator[str]:
    """Walk a folder of a store, in the order of one on disk; one without objects is there if it was made by hand."""
    try:
        children = (root / below).children()
    except FileNotFoundError as error:
        msg = f"cannot list {root / below}: there is nothing; check the URL"
        raise InvalidInput(msg) from error
    children = [child for child in children if hidden or not child.name.startswith(".")]
    if not children and below:
        yield below
    for child in children:
        if child.is_folder:
            yield from _walk_store(root, f"{below}{child.name}/", hidden=hidden)
        else:
            yield below + child.name


def _walk(root: Path, below: str, parents: tuple[str, ...], *, hidden: bool) -> Iterator[str]:
    real = os.path.realpath(root / below)
    if real in parents:
        return
    names = _names(root / below, hidden=hidden)
    if not names and below:
        yield below
    for name in names:
        path = below + name
        if (root / path).is_dir():
            yield from _walk(root, f"{path}/", (*parents, real), hidden=hidden)
        else:
            yield path


def _names(folder: Path, *, hidden: bool) -> list[str]:
    try:
        names = sorted(name for name in os.listdir(folder) if hidden or not name.startswith("."))  # noqa: PTH208
    except OSError as error:
        msg = f"cannot list {folder}: {error.strerror}; check the path and its permissions"
        raise InvalidInput(msg) from error
    for name in names:
        if not is_unicode(name):
            msg = f"the name {os.fsencode(name)!r} in {folder} is not valid UTF-8; rename the file"
            raise InvalidInput(msg)
    return names


def find_shards(root: Place, suffix: str) -> tuple[Place, list[str]]:
    """Find the files with a suffix: their common folder, and their paths in it.

    Args:
        root: A folder, searched to the bottom, or one such file.
    """
    if root.is_file():
        return root.parent, [root.name]
    return root, [path for path in walk(root) if path.lower().endswith(suffix)]


def is_unicode(name: str) -> bool:
    """Say whether a file name is valid UTF-8; Python stands half characters in for the bytes of one that is not."""
    return name.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def suffix_of(name: str) -> str:
    """Give the suffix of a path as `PurePosixPath.suffix` does, in a tenth of its time.

    >>> suffix_of("cat.s/a.tar.gz"), suffix_of("cat.s/.hidden"), suffix_of("cat.s/a.")
    ('.gz', '', '')
    """
    last = name[name.rfind("/") + 1 :]
    dot = last.rfind(".")
    return last[dot:] if 0 < dot < len(last) - 1 else ""


def is_image(name: str) -> bool:
    """Say whether a file name ends like an image's, in upper or lower case."""
    suffix = suffix_of(name).lower()
    return suffix in _LOSSY or suffix in _KEPT


def released_format(name: str, lossless: str) -> Lossless:
    """Choose the format an image file is released in: its own if that is lossless, otherwise `lossless`."""
    kept = _KEPT.get(suffix_of(name).lower())
    return kept or ("webp" if lossless == "webp" else "png")


def released_name(name: str, lossless: str) -> str:
    """Name an image once it is lossless, its neighbours left aside.

    >>> released_name("cat/a.JPG", "png"), released_name("cat/b.webp", "png")
    ('cat/a.png', 'cat/b.webp')
    """
    suffix = suffix_of(name)
    if suffix.lower() in _KEPT:
        return name
    return f"{name[: len(name) - len(suffix)]}.{released_format(name, lossless)}"


def irregular_names(names: Sequence[str], lossless: str) -> dict[str, str]:
    """Name those images of one folder whose `released_name` is wanted by another one too.

    Depends on the set of names alone, not on their order. Upper and lower case count as equal, so that a release can
    be copied to any file system.

    >>> irregular_names(["a.jpg", "a.png", "b.jpg"], "png")
    {'a.jpg': 'a.jpg.png'}
    """
    wanted = {name: released_name(name, lossless) for name in sorted(names)}
    claims = Counter(name.casefold() for name in wanted.values())
    found: dict[str, str] = {}
    for name, short in wanted.items():
        if name == short or claims[short.casefold()] == 1:
            continue
        longer = f"{name}.{released_format(name, lossless)}"
        while longer.casefold() in claims:
            longer += f".{released_format(name, lossless)}"
        claims[longer.casefold()] += 1
        found[name] = longer
    return found


def split_of(shard: str) -> str:
    """Read the split off a shard's path: its name up to the first dash, or its folder; empty if neither names one.

    >>> split_of("data/train-00000-of-00002.parquet"), split_of("test/0000.parquet"), split_of("photos.parquet")
    ('train', 'test', '')
    """
    path = PurePosixPath(shard)
    for name in (path.stem.split("-")[0], path.parent.name):
        if name.lower() in SPLITS:
            return name
    return ""


def in_splits(shards: Iterable[str], splits: Sequence[str]) -> list[str]:
    """Keep the shards of the named splits, or all of them if none is named.

    Raises:
        InvalidInput: A named split does not exist.
    """
    found = {shard: split_of(shard) for shard in shards}
    check_splits(splits, found.values())
    return [shard for shard, split in found.items() if not splits or split in splits]


def check_splits(wanted: Sequence[str], found: Iterable[str]) -> None:
    """Refuse names of splits that are not there.

    Raises:
        InvalidInput: Names the splits that there are.
    """
    there = sorted(set(found) - {""})
    if missing := sorted(set(wanted) - set(there)):
        known = f"has {', '.join(there)}" if there else "is not divided into splits"
        msg = f"there is no split named {', '.join(missing)}: the dataset {known}"
        raise InvalidInput(msg)
