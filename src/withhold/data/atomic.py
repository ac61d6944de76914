"""Files that appear whole or not at all, whenever the process is killed."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from withhold.data.object_path import ObjectPath
from withhold.data.place import Place
from withhold.errors import RunStopped

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers that mean there is no space left."""


def write_atomic(path: Place, content: bytes) -> None:
    """Write a file durably under its name in one step; missing folders are made.

    Raises:
        RunStopped: The disk is full; nothing is left of the file.
    """
    if isinstance(path, ObjectPath):
        path.write_bytes(content)
        return
    with atomic_file(path) as file:
        file.write(content)


_writer = b""


def write_as(name: str) -> None:
    """Name this process apart from others that may write the same files at the same time."""
    global _writer  # noqa: PLW0603 - it is one for the process
    _writer = name.encode()


def partial_of(path: Path) -> Path:
    """Name the file that holds what is written before it takes its own name; a kill may leave it."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name) + _writer).hexdigest()[:16]}.partial")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when the block ends without error, and is on disk by then.

    Until then it has a hidden name beside `path` that depends on `path` alone, so that a second attempt after a kill
    replaces what the first one left.

    Raises:
        RunStopped: The disk is full; nothing is left of the file.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed either
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            msg = f"no space left on the disk for {path}; make room and run the same command again to go on"
            raise RunStopped(msg) from error
        raise


@contextmanager
def whole_file(path: Place, scratch: Path) -> Iterator[BinaryIO]:
    """Open a large file for writing, as `atomic_file` does; one of a store is put together in `scratch` first."""
    if isinstance(path, Path):
        with atomic_file(path) as file:
            yield file
        return
    whole = scratch / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.whole"
    try:
        with atomic_file(whole) as file:
            yield file
        path.upload(whole)
    finally:
        whole.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; only POSIX lets a folder be opened for that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
