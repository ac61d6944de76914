"""Files that change their place without overwriting another, also onto another file system."""

import errno
import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from withhold.data.atomic import atomic_file, sync_folder
from withhold.data.listing import is_image
from withhold.errors import RunStopped

LONGEST_NAME = 240
"""Bytes of a file name to which a number or the end of a reason's name can still be added."""


def released_as(name: str, media_type: str) -> str:
    """Name a released image in the outbox.

    >>> released_as("cat/a.JPG", "image/png"), released_as("b.PNG", "image/png"), released_as("c.v2", "image/webp")
    ('cat/a.png', 'b.PNG', 'c.v2.webp')
    """
    suffix = f".{media_type.removeprefix('image/')}"
    given = PurePosixPath(name).suffix
    if given.lower() == suffix:
        return name
    return (name[: len(name) - len(given)] if is_image(name) else name) + suffix


def free(path: Path, same: Callable[[Path], bool]) -> Path:
    """Return the path, or the path with the first number at which nothing lies, or the same as what shall lie there.

    Args:
        same: Says whether an existing file holds just that.
    """
    candidate, number = path, 1
    while os.path.lexists(candidate) and not same(candidate):
        number += 1
        candidate = path.with_name(f"{path.stem}.{number}{path.suffix}")
    return candidate


def fitting(name: str) -> str:
    """Shorten the last part of a path if nothing could be added to it, so that it stays another than all others.

    >>> fitting("cat/1.jpg"), len(fitting("cat/" + 250 * "a" + ".jpg"))
    ('cat/1.jpg', 85)
    """
    folder, slash, last = name.rpartition("/")
    if len(os.fsencode(last)) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(os.fsencode(last)).hexdigest()[:16]
    return f"{folder}{slash}{last[:60]}-{digest}{PurePosixPath(last).suffix[:8]}"


def holds(path: Path, sha256: str) -> bool:
    """Say whether a file has this content."""
    try:
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def equal_files(one: Path, other: Path) -> bool:
    """Say whether two files have the same content, as far as both can be read."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def move(source: Path, target: Path) -> None:
    """Move a file durably; a kill leaves it at one place or the other, or whole at both.

    Raises:
        RunStopped: It cannot be moved; it is still where it was.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move_elsewhere(source, target)
        sync_folder(target.parent)
        sync_folder(source.parent)
    except OSError as error:
        msg = f"cannot move {source} to {target}: {error.strerror}; nothing is lost. Change that, and start again."
        raise RunStopped(msg) from error


def _move_elsewhere(source: Path, target: Path) -> None:
    """Copy a file to another file system, and then remove it here."""
    with source.open("rb") as content, atomic_file(target) as copy:
        shutil.copyfileobj(content, copy)
    shutil.copystat(source, target)
    source.unlink()
