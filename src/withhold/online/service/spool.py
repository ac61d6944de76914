"""Files of jobs on disk: encrypted, readable by their owner alone, and there after the process was killed."""

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from filelock import FileLock, Timeout

from withhold.data.atomic import sync_folder, write_atomic
from withhold.errors import InvalidInput, WithholdError
from withhold.online.service.space import Space

NONCE = 12
LOCK = "lock"
MARKER = "withhold-spool"
"""Empty file that says that a folder is a spool; nothing is ever touched in a folder without it."""

DELETED = ".deleted"
JOB = re.compile(r"[0-9a-f]{32}")


class Unreadable(WithholdError):
    """A file of a job is missing, was changed, or was written under another protector's key."""


class Spool:
    """Named files of jobs. Several threads may use it; `open` lets in one process.

    The key is derived from the protector's (HKDF, RFC 5869), so nothing else needs to be kept. Each file is sealed
    with AES-256-GCM together with its job and name, so that none can stand in for another.
    """

    def __init__(self, folder: Path, secret: bytes, lock: FileLock) -> None:
        self._folder, self._lock = folder, lock
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"withhold/spool/1").derive(secret)
        self._cipher = AESGCM(key)
        self._space = Space()
        for job in self.jobs():
            self._space.count(job, {path.name: path.stat().st_size for path in (folder / job).iterdir()})

    @classmethod
    def open(cls, folder: Path, secret: bytes) -> "Spool":
        """Open a folder for one process; it is made if it is not there.

        Args:
            folder: A spool, an empty folder or none.
            secret: The protector's key.

        Raises:
            InvalidInput: It holds something else, it cannot be written, or another process has it.
        """
        try:
            _make(folder)
            lock = FileLock(folder / LOCK, mode=0o600)
            lock.acquire(timeout=0)
            (folder / MARKER).touch(mode=0o600)
        except Timeout:
            msg = f"the spool {folder} is used by another service; stop that one, or give this one its own with --spool"
            raise InvalidInput(msg) from None
        except OSError as error:
            msg = f"the spool {folder} cannot be used: {error.strerror}; give another folder with --spool"
            raise InvalidInput(msg) from error
        _clear(folder)
        return cls(folder, secret, lock)

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.release()

    @property
    def taken(self) -> int:
        """Count the bytes of all files, those that are expected among them."""
        return self._space.taken

    def jobs(self) -> Iterator[str]:
        """Name the jobs that have files."""
        return (each.name for each in self._folder.iterdir() if JOB.fullmatch(each.name) and each.is_dir())

    def expect(self, job: str, sizes: Mapping[str, int]) -> None:
        """Count files that are yet to be written, each until then as so many bytes."""
        self._space.count(job, sizes)

    def write(self, job: str, name: str, content: bytes) -> None:
        """Write a file durably; when this returns, it survives a kill and a crash.

        Args:
            job: Its id, 32 hexadecimal digits.

        Raises:
            RunStopped: The disk is full.
        """
        assert JOB.fullmatch(job), "else it would not be found again"
        place = self._folder / job
        if not place.is_dir():
            place.mkdir(mode=0o700)
            sync_folder(self._folder)
        nonce = secrets.token_bytes(NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, content, _bound_to(job, name))
        write_atomic(place / name, sealed)
        self._space.count(job, {name: len(sealed)})

    def read(self, job: str, name: str) -> bytes:
        """Read a file.

        Raises:
            Unreadable: It is not there, or not as it was written.
        """
        try:
            sealed = (self._folder / job / name).read_bytes()
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], _bound_to(job, name))
        except (OSError, InvalidTag, ValueError) as error:
            msg = f"{name} of job {job} cannot be read back"
            raise Unreadable(msg) from error

    def has(self, job: str, name: str) -> bool:
        """Say whether there is such a file."""
        return (self._folder / job / name).is_file()

    def remove(self, job: str, name: str) -> None:
        """Delete a file, if it is there."""
        (self._folder / job / name).unlink(missing_ok=True)
        self._space.forget(job, name)

    def delete(self, job: str) -> None:
        """Delete all files of a job, if there are any."""
        doomed = self._folder / f"{job}{DELETED}"
        with contextlib.suppress(FileNotFoundError):
            (self._folder / job).rename(doomed)  # what is half deleted must not look like a job
        shutil.rmtree(doomed, ignore_errors=True)
        self._space.forget_all(job)

    def size(self, job: str, name: str) -> int:
        """Return the bytes that a file takes; 0 if there is none."""
        try:
            return (self._folder / job / name).stat().st_size
        except FileNotFoundError:
            return 0

    def age(self, job: str, name: str) -> float | None:
        """Return the seconds since a file was written; None if there is none."""
        try:
            return time.time() - (self._folder / job / name).stat().st_mtime
        except FileNotFoundError:
            return None


def _make(folder: Path) -> None:
    """Make a folder that its owner alone may look into; one that is there stays as it is.

    Raises:
        InvalidInput: It is there, and holds something that is no spool.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        names = {each.name for each in folder.iterdir()}
        if MARKER not in names and not names <= {LOCK}:
            msg = f"the folder {folder} is not empty and is no spool; name another one with --spool, such as "
            raise InvalidInput(msg + f"{folder / 'spool'}") from None


def _clear(folder: Path) -> None:
    """Delete what a kill left half deleted or half written."""
    for doomed in folder.glob(f"*{DELETED}"):
        if JOB.fullmatch(doomed.stem):
            shutil.rmtree(doomed, ignore_errors=True)
    for half in folder.glob("*/.*.partial"):
        if JOB.fullmatch(half.parent.name):
            half.unlink()


def _bound_to(job: str, name: str) -> bytes:
    return f"{job}/{name}".encode()
