"""Where datasets are: on a disk or in an object store, and what the two do differently when they are read."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from withhold.data.object_path import ObjectPath
from withhold.data.object_store import SCHEMES
from withhold.data.parallel import map_ahead
from withhold.errors import InvalidInput

Place = Path | ObjectPath
"""A path on disk, or a place in an object store, which has the same methods for what both can do."""

Item = TypeVar("Item")
Result = TypeVar("Result")

REQUESTS = 16
"""Requests to a store at a time: each mostly waits for the network."""

_COLLAPSED = re.compile(rf"({'|'.join(SCHEMES)}):/[^/]")


def place_of(where: str | Place) -> Place:
    """Tell a path from a URL.

    >>> place_of("photos/cats/"), place_of("s3://bucket/photos/")
    (PosixPath('photos/cats'), ObjectPath('s3://bucket/photos'))

    Raises:
        InvalidInput: It is a URL that names no place in a known store.
    """
    if isinstance(where, ObjectPath):
        return where
    if isinstance(where, str) and "://" in where:
        return ObjectPath(where)
    if _COLLAPSED.match(str(where)):
        msg = f"{where} was a URL before it was made a path; give a URL as text"
        raise InvalidInput(msg)
    return Path(where)


def seekable(place: Place) -> Path | BinaryIO:
    """Give what PyArrow reads fastest: a path, or an open object."""
    return place if isinstance(place, Path) else place.open("rb")


def read_part(place: Place, offset: int, size: int) -> bytes:
    """Read some bytes of a file; fewer at its end."""
    if isinstance(place, ObjectPath):
        return place.read_part(offset, size)
    with place.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def each(place: Place, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to items and yield the results in order; several at a time where it waits for a store."""
    return map(function, items) if isinstance(place, Path) else map_ahead(function, items, REQUESTS)
