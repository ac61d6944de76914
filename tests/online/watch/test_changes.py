import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import watchfiles
from tests.online.watch.inboxes import put

from withhold.online.watch.changes import Changes

LONG = 300.0
"""Seconds; a test that waits for them fails by the suite's own limit."""


def quiet(text: str) -> None:
    pytest.fail(text)


def test_a_file_that_appears_ends_the_wait(tmp_path: Path) -> None:
    with Changes(tmp_path, threading.Event(), quiet) as wait:
        put(tmp_path / "deep/a.png", b"")
        wait(LONG)


def test_stopping_ends_the_wait(tmp_path: Path) -> None:
    stop = threading.Event()
    with Changes(tmp_path, stop, quiet) as wait:
        thread = threading.Timer(0.0, stop.set)
        thread.start()
        wait(LONG)
        thread.join()
        wait(LONG)


def test_hidden_files_and_what_goes_away_are_no_change(tmp_path: Path) -> None:
    """A wait that they ended would leave time over; none is left, and none is measured either."""
    put(tmp_path / "a.png", b"")
    changes = Changes(tmp_path, threading.Event(), quiet)
    told: list[bool] = []
    with changes:
        (tmp_path / "a.png").unlink()
        put(tmp_path / ".withhold/done/a.png", b"")
        told += [changes._next(), changes._next()]
    assert told == [False, False]


def test_where_the_system_announces_nothing_time_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> Iterator[object]:
        yield set()
        raise OSError(errno.ENOSPC, "OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", refused)
    said: list[str] = []
    with Changes(tmp_path, threading.Event(), said.append) as wait:
        wait(1.0)
        wait(0.01)
    assert len(said) == 1
    assert "limit reached" in said[0]
