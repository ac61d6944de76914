"""The first look at a source: every image is read, hashed and decoded once, so that no run fails on its last image."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from withhold.data.dataset import Dataset
from withhold.data.entries import REPEATED, Entries, Stored, list_entries, read_groups, refuse_failure
from withhold.data.parallel import map_ahead
from withhold.data.pixels import UnreadableImage
from withhold.errors import InvalidInput
from withhold.progress import Reporter

_LOOK_TYPES: Mapping[str, pa.DataType] = {
    "width": pa.int32(),
    "height": pa.int32(),
    "mode": REPEATED,
    "sha256": pa.binary(32),
}
LOOK = pa.schema(_LOOK_TYPES)
NAMED = 20
"""Offending images that a message names; the rest is counted."""

Labels = npt.NDArray[np.int32]
MIN_CLASSES, MIN_PER_CLASS = 2, 2


@dataclass(frozen=True, slots=True)
class Problem:
    """An image that cannot be used, and why."""

    name: str
    problem: str


class _Look(NamedTuple):
    width: int
    height: int
    mode: str
    sha256: bytes
    problem: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What a source holds.

    Attributes:
        table: One row per image in the dataset's order: name, label, shard, row, split, width, height, mode, sha256.
            An unreadable image has no mode.
        unreadable: The images that could not be decoded.
    """

    table: pa.Table
    unreadable: tuple[Problem, ...]


def scan(dataset: Dataset, reporter: Reporter, check: Callable[[Sequence[str], Labels], None] | None = None) -> Scan:
    """Read, hash and decode every image.

    Args:
        check: Refuses the classes and labels of a dataset before any image is read; `check_classes` if absent.

    Raises:
        InvalidInput: The dataset cannot be protected whatever its pixels: no images, or too few of a class.
        RunStopped: The system refused to give a file.
    """
    listing = list_entries(dataset)
    (check or check_classes)(dataset.classes, listing.column("label").to_numpy())
    names = listing.column("name")
    looked = _Looked(len(listing))
    unreadable: list[Problem] = []
    seen = 0
    reporter.start("Reading the source", len(listing), "images")

    def look_at(group: Sequence[Stored]) -> list[_Look]:
        refuse_failure(group)
        return [_look(dataset, stored) for stored in group]

    for looks in map_ahead(look_at, read_groups(dataset, Entries(listing))):
        looked.note(seen, looks)
        unreadable += [Problem(names[seen + i].as_py(), look.problem) for i, look in enumerate(looks) if look.problem]
        seen += len(looks)
        reporter.advance(len(looks))
    reporter.finish()
    for name, column in zip(LOOK.names, looked.columns(), strict=True):
        listing = listing.append_column(name, column)
    return Scan(listing, tuple(unreadable))


class _Looked:
    """What was seen of every image, in memory of the final size from the beginning."""

    def __init__(self, images: int) -> None:
        self._sizes = np.empty((2, images), np.int32)
        self._modes: dict[str, int] = {}
        self._mode = np.empty(images, np.int32)
        self._digests = np.empty((images, hashlib.sha256().digest_size), np.uint8)

    def note(self, start: int, looks: Sequence[_Look]) -> None:
        """Keep what was seen of consecutive images."""
        rows = slice(start, start + len(looks))
        self._sizes[:, rows] = [[look.width for look in looks], [look.height for look in looks]]
        self._mode[rows] = [self._modes.setdefault(look.mode, len(self._modes)) for look in looks]
        self._digests[rows] = np.frombuffer(b"".join(look.sha256 for look in looks), np.uint8).reshape(len(looks), -1)

    def columns(self) -> "list[pa.Array[Any]]":
        """Give the columns of `LOOK`, over the same memory."""
        modes = pa.DictionaryArray.from_arrays(self._mode, pa.array(list(self._modes), REPEATED.value_type))
        kind = LOOK.field("sha256").type
        digests = pa.FixedSizeBinaryArray.from_buffers(
            kind, len(self._digests), [None, pa.py_buffer(self._digests.data)]
        )
        return [*map(pa.array, self._sizes), modes, digests]


def _look(dataset: Dataset, stored: Stored) -> _Look:
    if not isinstance(stored, bytes):
        return _Look(0, 0, "", bytes(32), reason(stored))
    digest = hashlib.sha256(stored).digest()
    try:
        picture = dataset.decode(stored)
    except UnreadableImage as error:
        return _Look(0, 0, "", digest, reason(error))
    height, width = picture.levels.shape[:2]
    return _Look(width, height, picture.mode, digest, None)


def reason(problem: Exception) -> str:
    """Say in words why an image could not be read."""
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem) or type(problem).__name__


def check_none_emptied(classes: Sequence[str], listed: Labels, kept: Labels) -> None:
    """Refuse to leave out all images of a class: trainers would number the classes behind it differently.

    Raises:
        InvalidInput: The message names the classes.
    """
    emptied = np.setdiff1d(listed, kept)
    if len(emptied):
        names = enumerate_some([repr(classes[label]) for label in emptied.tolist()])
        msg = (
            f"every image of {names} is unreadable; leaving out a whole class would shift the labels of the others. "
            f"Repair some of its images, or remove the class from the source."
        )
        raise InvalidInput(msg)


def check_classes(classes: Sequence[str], labels: Labels, *, kind: str = "class", item: str = "image") -> None:
    """Refuse a dataset in which a classifier has nothing to tell apart.

    Args:
        labels: Class of each image, or of each face.
        kind: What a class is called.
        item: What a member of one is called.

    Raises:
        InvalidInput: No images, fewer than two classes with images, or a class with a single image.
    """
    counts = np.bincount(labels, minlength=len(classes))
    present = np.flatnonzero(counts)
    if len(present) < MIN_CLASSES:
        only = f" ({classes[int(present[0])]!r})" if len(present) else ""
        msg = (
            f"expected {item}s of at least two {_plural(kind)}, got {len(present)}{only}; "
            "protection works against a classifier."
        )
        raise InvalidInput(msg)
    single = [repr(classes[label]) for label in present.tolist() if counts[label] < MIN_PER_CLASS]
    if single:
        msg = f"each {kind} needs two {item}s or more, got one in {enumerate_some(single)}; add some, or leave it out."
        raise InvalidInput(msg)


def _plural(kind: str) -> str:
    return {"class": "classes", "identity": "identities"}[kind]


def check_readable(unreadable: Sequence[Problem], *, skip: bool) -> None:
    """Refuse unreadable images unless they are to be left out.

    Raises:
        InvalidInput: There are some; the message names the first twenty with their problem.
    """
    if not unreadable or skip:
        return
    lines = [f"  {each.name}: {each.problem}" for each in unreadable[:NAMED]]
    if len(unreadable) > NAMED:
        lines.append(f"  and {len(unreadable) - NAMED} more")
    count = "1 image" if len(unreadable) == 1 else f"{len(unreadable)} images"
    msg = (
        f"{count} cannot be read:\n"
        + "\n".join(lines)
        + "\nRepair or remove them, or leave them out with --skip-unreadable."
    )
    raise InvalidInput(msg)


def enumerate_some(names: Sequence[str], limit: int = NAMED) -> str:
    """List names in a sentence, the first few in full and the rest counted.

    >>> enumerate_some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"
