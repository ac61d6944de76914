import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.online.watch.inboxes import put, tree

from withhold.errors import RunStopped
from withhold.online.watch.moving import LONGEST_NAME, equal_files, fitting, free, holds, move, move_to_free


def test_a_free_name_is_the_first_number_at_which_nothing_else_lies(tmp_path: Path) -> None:
    put(tmp_path / "a.png", b"one")
    put(tmp_path / "a.2.png", b"two")
    (tmp_path / "a.3.png").symlink_to("nowhere")
    assert free(tmp_path / "b.png", lambda _: False) == tmp_path / "b.png"
    assert free(tmp_path / "a.png", lambda _: False) == tmp_path / "a.4.png"
    assert free(tmp_path / "a.png", lambda path: path.name == "a.2.png") == tmp_path / "a.2.png"


def test_a_fitting_name_can_be_lengthened_and_stays_another(tmp_path: Path) -> None:
    long = [f"{'é' * 120}{letter}.png" for letter in "ab"]
    short = [fitting(f"cat/{name}") for name in long]
    assert len({*short}) == 2
    for name in short:
        put(tmp_path / f"{name}.999.png.reason.txt", b"")
        assert name.endswith(".png")
    assert fitting("a" * LONGEST_NAME) == "a" * LONGEST_NAME


def test_content_is_compared(tmp_path: Path) -> None:
    one, same, other = (put(tmp_path / name, content) for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")))
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert [holds(path, digest, 1) for path in (one, same, other, tmp_path, tmp_path / "none")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert (equal_files(one, same), equal_files(one, other), equal_files(one, tmp_path / "none")) == (
        True,
        False,
        False,
    )


def test_what_has_another_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = put(tmp_path / "a", b"xx")
    read: list[object] = []
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(given))
    monkeypatch.setattr(Path, "read_bytes", read.append)
    assert not holds(other, "0" * 64, 1)
    assert read == []


def test_a_file_that_appears_in_the_moment_of_a_move_is_not_overwritten(tmp_path: Path) -> None:
    source = put(tmp_path / "in/a.png", b"one")
    asked: list[str] = []

    def late(target: Path) -> None:
        asked.append(target.name)
        if len(asked) == 1:
            put(target, b"from elsewhere")

    assert move_to_free(source, tmp_path / "out/a.png", late) == tmp_path / "out/a.2.png"
    assert asked == ["a.png", "a.2.png"]
    assert tree(tmp_path) == {"out/a.png": b"from elsewhere", "out/a.2.png": b"one"}


def test_a_copy_is_as_good_as_a_move_but_a_link_to_the_file_is_not(tmp_path: Path) -> None:
    source = put(tmp_path / "in/a.png", b"one")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").symlink_to(source)
    assert move_to_free(source, tmp_path / "out/a.png") == tmp_path / "out/a.2.png"
    assert (tmp_path / "out/a.2.png").read_bytes() == b"one"
    assert move_to_free(put(source, b"one"), tmp_path / "out/a.2.png") == tmp_path / "out/a.2.png"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.2.png", "a.png"]
    assert not source.exists()


@pytest.mark.parametrize("way", [move, move_to_free])
@pytest.mark.parametrize("far", [False, True])
def test_a_file_is_moved_whole_also_to_another_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: bool, way: Callable[[Path, Path], object]
) -> None:
    rename = Path.replace

    def link(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def replace(path: Path, target: Path) -> Path:
        if path.parent != target.parent and far:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    if far:
        monkeypatch.setattr(os, "link", link)
    source = put(tmp_path / "in/a.png", b"one")
    os.utime(source, (5, 5))
    way(source, tmp_path / "out/deep/a.png")
    assert tree(tmp_path) == {"out/deep/a.png": b"one"}
    assert (tmp_path / "out/deep/a.png").stat().st_mtime == 5


@pytest.mark.parametrize("way", [move, move_to_free])
def test_what_cannot_be_moved_stays_and_is_said(tmp_path: Path, way: Callable[[Path, Path], object]) -> None:
    source = put(tmp_path / "a.png", b"one")
    put(tmp_path / "out", b"a file")
    with pytest.raises(RunStopped, match="cannot move"):
        way(source, tmp_path / "out/a.png")
    assert tree(tmp_path) == {"a.png": b"one", "out": b"a file"}
