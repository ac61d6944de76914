"""Files that change their place without overwriting another, also onto another file system."""

import errno
import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def holds(path: Path, sha256: str, size: int) -> bool:
    """Say whether a file has this content; one of another size in bytes is not read."""
    try:
        if not path.is_file() or path.stat().st_size != size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def equal_files(one: Path, other: Path) -> bool:
    """Say whether two files have the same content, as far as both can be read."""
    filecmp.clear_cache()  # it knows files by size and time alone
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def move(source: Path, target: Path) -> None:
    """Move a file durably, by one rename where that is possible; a kill leaves it at one place, or whole at both.

    What lies at the target is replaced.

    Raises:
        RunStopped: It cannot be moved; it is still where it was.
    """
    with _in_a_sentence(source, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move_elsewhere(source, target)
        sync_folder(target.parent)
        sync_folder(source.parent)


def move_to_free(source: Path, place: Path, before: Callable[[Path], None] = lambda _: None) -> Path:
    """Move a file durably to a path, or to the first number there at which nothing else lies; return where it is now.

    Nothing is overwritten on a file system with hard links, whoever writes there meanwhile; elsewhere only what appears
    in the moment of the move is. A kill leaves the file at one place, or whole at both.

    Args:
        source: Nobody else may put another file there.
        before: Called with the target before each attempt to move to it.

    Raises:
        RunStopped: It cannot be moved; it is still where it was.
    """
    while True:
        target = free(place, lambda other: _is_copy(other, source))
        before(target)
        if _move_new(source, target):
            return target


def _move_new(source: Path, target: Path) -> bool:
    """Move a file unless another one lies at the target; a copy that lies there is as good.

    Raises:
        RunStopped: It cannot be moved; it is still where it was.
    """
    with _in_a_sentence(source, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)  # unlike a rename, it fails if the target exists
        except FileExistsError:
            if not _is_copy(target, source):
                return False
        except OSError:  # another file system, or one without hard links
            move(source, target)
            return True
        sync_folder(target.parent)
        source.unlink()
        sync_folder(source.parent)
    return True


def _is_copy(path: Path, source: Path) -> bool:
    """Say whether a file has the content of another, and would keep it without that one."""
    return not path.is_symlink() and equal_files(path, source)


@contextmanager
def _in_a_sentence(source: Path, target: Path) -> Iterator[None]:
    """Turn what the system refuses into a message.

    Raises:
        RunStopped: The file cannot be moved.
    """
    try:
        yield
    except OSError as error:
        msg = f"cannot move {source} to {target}: {error.strerror}; nothing is lost. Change that, and start again."
        raise RunStopped(msg) from error


def _move_elsewhere(source: Path, target: Path) -> None:
    """Copy a file to another file system, and then remove it here."""
    with source.open("rb") as content, atomic_file(target) as copy:
        shutil.copyfileobj(content, copy)
    shutil.copystat(source, target)
    source.unlink()
