import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.online.watch.inboxes import put

from withhold.errors import InvalidInput, RunStopped
from withhold.online.watch import arrivals as module
from withhold.online.watch.arrivals import Arrivals

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arrivals(tmp_path: Path, clock: Clock) -> Arrivals:
    return Arrivals(tmp_path, 2.0, clock=clock)


def names(arrivals: Arrivals) -> list[str]:
    return [arrival.name for arrival in arrivals.look()]


@contextmanager
def open_elsewhere(path: Path, mode: str) -> Iterator[None]:
    """Have a process of its own that holds a file open."""
    code = "import sys; held = open(sys.argv[1], sys.argv[2]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.communicate()


def test_a_file_is_taken_once_it_has_not_changed_for_a_while(tmp_path: Path, arrivals: Arrivals, clock: Clock) -> None:
    path = put(tmp_path / "cat/a.png", b"one")
    assert (names(arrivals), arrivals.wait()) == ([], 2.0)
    clock.now += 1.5
    put(path, b"grown")
    assert (names(arrivals), arrivals.wait()) == ([], 2.0)
    clock.now += 1.5
    assert (names(arrivals), arrivals.wait()) == ([], 0.5)
    clock.now += 1.0
    assert arrivals.wait() == 0.0
    assert (names(arrivals), arrivals.wait()) == (["cat/a.png"], None)


def test_a_file_that_settled_is_read_and_one_that_changed_since_is_not(
    tmp_path: Path, arrivals: Arrivals, clock: Clock
) -> None:
    path = put(tmp_path / "a.png", b"one")
    names(arrivals)
    clock.now += 2
    (arrival,) = arrivals.look()
    assert arrivals.read(arrival) == b"one"
    put(path, b"other")
    assert arrivals.read(arrival) is None
    assert (names(arrivals), arrivals.wait()) == ([], 2.0)
    path.unlink()
    assert arrivals.read(arrival) is None
    assert (names(arrivals), arrivals.wait()) == ([], None)


def test_equal_size_and_time_do_not_hide_that_a_file_is_another_one(tmp_path: Path, arrivals: Arrivals) -> None:
    path = put(tmp_path / "a.png", b"one")
    names(arrivals)
    found = path.stat()
    replacement = put(tmp_path / ".new", b"two")
    os.utime(replacement, ns=(found.st_atime_ns, found.st_mtime_ns))
    replacement.replace(path)
    assert (names(arrivals), arrivals.wait()) == ([], 2.0)


def test_those_that_came_first_are_first(tmp_path: Path, clock: Clock) -> None:
    for name, time in (("a.png", 30), ("b/c.png", 10), ("b/a.png", 20), ("z.png", 10)):
        os.utime(put(tmp_path / name, b""), (time, time))
    arrivals = Arrivals(tmp_path, 1, clock=clock)
    arrivals.look()
    clock.now += 1
    assert names(arrivals) == ["b/c.png", "z.png", "b/a.png", "a.png"]


def test_what_is_hidden_unfinished_excluded_or_no_file_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    target = put(tmp_path / "elsewhere/secret.png", b"")
    inbox = tmp_path / "inbox"
    for name in (".a.png", ".hidden/b.png", "c.png.part", "d.PNG.crdownload", "labels.csv", "old/e.png", "taken.png"):
        put(inbox / name, b"")
    (inbox / "link.png").symlink_to(target)
    (inbox / "folder").symlink_to(target.parent)
    os.mkfifo(inbox / "pipe.png")
    said: list[str] = []
    excluded = frozenset({inbox / "labels.csv", inbox / "old"})
    arrivals = Arrivals(inbox, 0, excluded, say=said.append, clock=clock)
    assert names(arrivals) == ["taken.png"]
    assert [text.split()[0] for text in said] == ["folder", "link.png", "pipe.png"]


@LINUX
def test_a_file_that_another_process_writes_is_not_read(tmp_path: Path, arrivals: Arrivals, clock: Clock) -> None:
    path = put(tmp_path / "a.png", b"half")
    names(arrivals)
    clock.now += 2
    (arrival,) = arrivals.look()
    with open_elsewhere(path, "a"):
        assert arrivals.read(arrival) is None
        assert arrivals.wait() == 2.0
    with open_elsewhere(path, "r"):
        assert arrivals.read(arrival) == b"half"


@LINUX
def test_whoever_writes_while_a_file_is_looked_at_does_not_end_this_process(tmp_path: Path) -> None:
    """The kernel signals that a lease must be given up; unless told otherwise, by a signal that kills."""
    path = put(tmp_path / "a.png", b"half")
    code = (
        "import os, sys, fcntl, signal, subprocess\n"
        "from withhold.online.watch import arrivals\n"
        "real = fcntl.fcntl\n"
        "def slow(descriptor, command, argument):\n"
        "    if command == fcntl.F_SETLEASE and argument == fcntl.F_UNLCK:\n"
        "        try: os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)\n"
        "        except BlockingIOError: print('waits')\n"
        "    return real(descriptor, command, argument)\n"
        "fcntl.fcntl = slow\n"
        "print(arrivals.is_being_written(os.open(sys.argv[1], os.O_RDONLY)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "waits\nFalse\n"), done.stderr


def test_a_file_larger_than_any_picture_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_FILE", 3)
    put(tmp_path / "a.png", b"four")
    arrivals = Arrivals(tmp_path, 0)
    (arrival,) = arrivals.look()
    with pytest.raises(InvalidInput, match="4 bytes"):
        arrivals.read(arrival)


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    path = put(tmp_path / "inbox/a.png", b"one")
    arrivals = Arrivals(tmp_path / "inbox", 0)
    (arrival,) = arrivals.look()
    path.unlink()
    path.symlink_to(put(tmp_path / "secret", b"two"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        arrivals.read(arrival)
    assert not arrivals.unchanged(arrival)


def test_an_inbox_that_is_gone_ends_the_watch(tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="cannot be listed any more"):
        Arrivals(tmp_path / "inbox", 0).look()
