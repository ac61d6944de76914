"""Files in the inbox, and when they are whole.

A file is taken when neither its size nor its time of change moved for a while, and no process has it open for writing
where the system can tell. Names that begin with a dot and those of unfinished downloads are left alone, and so are
links and whatever else is no regular file. A writer that renames a finished file into the inbox is always safe.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from withhold.errors import InvalidInput, RunStopped

UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp")
"""Ends of names that programs give to files they are still writing."""

LARGEST_FILE = 1 << 30
"""Bytes; the most pixels that are accepted take less than this in any format, packed or not."""


class Signature(NamedTuple):
    """What changes when a file does; times in nanoseconds."""

    inode: int
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file as it was when it was looked at.

    Attributes:
        name: Its path in the inbox, with slashes.
    """

    name: str
    signature: Signature


class Arrivals:
    """Looks at the inbox and remembers since when each file is as it is.

    Args:
        settle: Seconds.
        excluded: Paths in the inbox that are passed over.
        say: Told once of each thing that is left alone.
    """

    def __init__(
        self,
        inbox: Path,
        settle: float,
        excluded: frozenset[Path] = frozenset(),
        *,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._settle = settle
        self._excluded = excluded
        self._say = say
        self._clock = clock
        self._seen: dict[str, tuple[Signature, float]] = {}
        self._waiting: set[str] = set()

    def look(self) -> list[Arrival]:
        """Return the files that have settled, those first that were changed first.

        Raises:
            RunStopped: The inbox is gone.
        """
        now = self._clock()
        seen = {}
        for arrival in self._files(self._inbox, ""):
            known, since = self._seen.get(arrival.name, (None, now))
            seen[arrival.name] = (arrival.signature, since if known == arrival.signature else now)
        self._seen = seen
        settled = [Arrival(name, signature) for name, (signature, since) in seen.items() if now - since >= self._settle]
        self._waiting = seen.keys() - {arrival.name for arrival in settled}
        return sorted(settled, key=lambda arrival: (arrival.signature.modified, arrival.name))

    def wait(self) -> float | None:
        """Return the seconds until the next file may have settled; None if there is none that had not."""
        now = self._clock()
        return min((max(0.0, self._seen[name][1] + self._settle - now) for name in self._waiting), default=None)

    def read(self, arrival: Arrival) -> bytes | None:
        """Return a file's bytes; None if it is gone, was changed since or is being written.

        Raises:
            InvalidInput: It cannot be read, or is larger than any picture that is accepted.
        """
        if arrival.signature.size > LARGEST_FILE:
            msg = f"the file has {arrival.signature.size:,} bytes, more than any picture that is accepted"
            raise InvalidInput(msg)
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(self.path(arrival.name), flags), "rb") as file:  # noqa: PTH123 - not through links
                content = None if is_being_written(file.fileno()) else file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"the file cannot be read: {error.strerror}"
            raise InvalidInput(msg) from error
        if content is None or not self.unchanged(arrival):
            self.again(arrival)
            return None
        return content

    def again(self, arrival: Arrival) -> None:
        """Let a file that was found changing settle anew."""
        self._seen[arrival.name] = (arrival.signature, self._clock())
        self._waiting.add(arrival.name)

    def unchanged(self, arrival: Arrival) -> bool:
        """Say whether a file is still there as it was looked at."""
        with contextlib.suppress(OSError):
            return _signature(self.path(arrival.name).lstat()) == arrival.signature
        return False

    def path(self, name: str) -> Path:
        """Return the path of a file in the inbox."""
        return self._inbox / name

    def _files(self, folder: Path, below: str) -> Iterator[Arrival]:
        for entry in sorted(self._entries(folder), key=lambda entry: entry.name):
            name = f"{below}{entry.name}"
            if entry.name.startswith(".") or Path(entry.path) in self._excluded:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(Path(entry.path), f"{name}/")
            elif not entry.is_file(follow_symlinks=False):
                self._say(f"{printable(name)} is a link or no regular file, and is left alone.")
            elif not entry.name.lower().endswith(UNFINISHED):
                with contextlib.suppress(FileNotFoundError):
                    yield Arrival(name, _signature(entry.stat(follow_symlinks=False)))

    def _entries(self, folder: Path) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except OSError as error:
            if folder == self._inbox:
                msg = f"the inbox {folder} cannot be listed any more: {error.strerror}; bring it back and start again."
                raise RunStopped(msg) from error
            if not isinstance(error, FileNotFoundError):
                self._say(f"The folder {printable(str(folder))} cannot be listed: {error.strerror}.")
            return []


def is_being_written(descriptor: int) -> bool:
    """Say whether another process has a file open for writing, as far as the system tells; only Linux does.

    The kernel grants a read lease on a file only if nobody has it open for writing. It refuses one for other reasons
    too, for instance on a network's file system; then nothing is known.
    """
    try:
        from fcntl import F_RDLCK, F_SETLEASE, F_SETSIG, F_UNLCK, fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        return False
    try:
        # Whoever opens the file for writing meanwhile makes the kernel send a signal, by default one that kills.
        fcntl(descriptor, F_SETSIG, signal.SIGURG)
        fcntl(descriptor, F_SETLEASE, F_RDLCK)
        fcntl(descriptor, F_SETLEASE, F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def printable(name: str) -> str:
    r"""Write a name so that it takes one line and can be printed everywhere; half characters stand for other bytes.

    >>> printable("cat/1.jpg"), printable("a\nb.jpg")
    ('cat/1.jpg', "'a\\nb.jpg'")
    """
    return name if name.isprintable() else ascii(name)


def _signature(found: os.stat_result) -> Signature:
    return Signature(found.st_ino, found.st_size, found.st_mtime_ns)
