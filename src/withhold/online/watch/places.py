"""The folders of a watch, checked against each other and held for one process."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from withhold.errors import InvalidInput
from withhold.online.watch.settings import WatchSettings

STATE = ".withhold"
"""Folder in inbox and outbox that a watch keeps its own files in."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where files come from and go to; every path is absolute and without links.

    Attributes:
        done: Where originals go; None if they are deleted.
        rejected: Where files go that cannot be protected.
    """

    inbox: Path
    outbox: Path
    done: Path | None
    rejected: Path

    @property
    def journal(self) -> Path:
        """Folder of what is being worked on."""
        return self.inbox / STATE / "journal"

    @property
    def staging(self) -> Path:
        """Folder of released images that are not in the outbox yet, on its file system."""
        return self.outbox / STATE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold all folders for one process; what is missing of them is made.

        Raises:
            InvalidInput: Another watch holds one of them, or a folder cannot be made.
        """
        kept = [folder for folder in (self.done, self.rejected) if folder is not None]
        with ExitStack() as held:
            for folder in dict.fromkeys((self.inbox, self.outbox, *kept)):
                if folder in kept:
                    _make(folder)
                state = folder / STATE
                _make(state)
                try:
                    held.enter_context(FileLock(state / "lock", timeout=0))
                except Timeout:
                    msg = f"another watch is at work on {folder}; stop it first, or name another folder."
                    raise InvalidInput(msg) from None
            yield


def place_watch(inbox: Path, outbox: Path, settings: WatchSettings, private: Sequence[Path] = ()) -> Places:
    """Check the folders of a watch against each other, with links followed; nothing is written.

    Args:
        private: Folders that must neither be published nor taken for images, such as the protector's.

    Raises:
        InvalidInput: The inbox is no folder, the outbox is a file, or one lies in another where it must not.
    """
    inbox, outbox = inbox.expanduser().resolve(), outbox.expanduser().resolve()
    if not inbox.is_dir():
        msg = f"the inbox {inbox} is no folder; name the one that images arrive in."
        raise InvalidInput(msg)
    if settings.originals == "delete" and settings.done is not None:
        msg = "done says where originals are kept, and originals says to delete them; leave out one of the two."
        raise InvalidInput(msg)
    done = _place(settings.done, inbox / STATE / "done") if settings.originals == "keep" else None
    places = Places(inbox, outbox, done, _place(settings.rejected, inbox / STATE / "rejected"))
    kept = [(folder, what) for folder, what in ((done, "done"), (places.rejected, "rejected")) if folder is not None]
    for folder, what in ((outbox, "outbox"), *kept):
        if folder.exists() and not folder.is_dir():
            msg = f"{what} {folder} is a file; name a folder."
            raise InvalidInput(msg)
    _check_apart(outbox, "the outbox", inbox, "the inbox")
    for folder, what in kept:
        _check_apart(folder, f"the folder {what}", outbox, "the outbox")
        if inbox.is_relative_to(folder):
            msg = f"the folder {what} {folder} is or holds the inbox {inbox}; name another folder."
            raise InvalidInput(msg)
    for folder in private:
        for place, what in ((inbox, "the inbox"), (outbox, "the outbox")):
            _check_apart(folder.expanduser().resolve(), "the protector", place, what)
    return places


def _make(folder: Path) -> None:
    """Make a folder that only its owner may enter, unless it is there.

    Raises:
        InvalidInput: It cannot be made, or not be written in.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {folder}: {error.strerror}; change permissions, or name another place."
        raise InvalidInput(msg) from error
    if not os.access(folder, os.W_OK):
        msg = f"cannot write in {folder}; change its permissions, or name another folder."
        raise InvalidInput(msg)


def _place(given: Path | None, default: Path) -> Path:
    return default if given is None else given.expanduser().resolve()


def _check_apart(one: Path, what: str, other: Path, name: str) -> None:
    same = one.exists() and other.exists() and one.samefile(other)
    if same or one.is_relative_to(other) or other.is_relative_to(one):
        msg = f"{what} {one} and {name} {other} must be apart, and neither inside the other; name another folder."
        raise InvalidInput(msg)
