import errno
from pathlib import Path

import pytest

from withhold.data.atomic import atomic_file, write_atomic
from withhold.errors import RunStopped


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [file.name for file in path.parent.iterdir()] == ["b.bin"]


def test_nothing_is_visible_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "b.bin"
    with atomic_file(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "b.bin"
    write_atomic(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(path)
    assert [file.name for file in tmp_path.iterdir()] == ["b.bin"]
    assert path.read_bytes() == b"old"


def _interrupted(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt


def test_what_a_kill_left_behind_is_replaced(tmp_path: Path) -> None:
    left: list[Path] = []
    with atomic_file(tmp_path / "b.bin"):
        left = list(tmp_path.iterdir())
    left[0].write_bytes(b"left by a process that was killed")
    write_atomic(tmp_path / "b.bin", b"whole")
    assert [file.name for file in tmp_path.iterdir()] == ["b.bin"]
    assert left[0].name.startswith(".")


def test_a_full_disk_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="no space left"), atomic_file(tmp_path / "b.bin"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_file(tmp_path / "b.bin"):
        raise PermissionError
