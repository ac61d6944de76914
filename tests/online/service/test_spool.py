import os
import stat
from pathlib import Path

import pytest
from tests.online.service.fakes import SPOOL_SECRET

from withhold.errors import InvalidInput
from withhold.online.service.spool import Spool, Unreadable


def test_what_is_written_is_read_after_a_restart(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    spool.write("a", "1.original", b"first")
    spool.write("a", "2.original", b"")
    spool.write("b", "1.original", b"third")
    spool.close()
    again = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    assert sorted(again.jobs()) == ["a", "b"]
    assert [again.read(*place) for place in (("a", "1.original"), ("a", "2.original"), ("b", "1.original"))] == [
        b"first",
        b"",
        b"third",
    ]
    again.close()


def test_nothing_on_disk_says_what_was_written_and_nobody_else_may_look(tmp_path: Path) -> None:
    os.umask(0o022)
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    spool.write("a", "1.original", b"the picture itself " * 50)
    spool.write("a", "2.original", b"the picture itself " * 50)
    first, second = ((tmp_path / "spool" / "a" / f"{number}.original").read_bytes() for number in (1, 2))
    assert b"picture" not in first
    assert first[12:] != second[12:]
    for folder in (tmp_path / "spool", tmp_path / "spool" / "a"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    spool.close()


def test_a_file_that_is_not_as_it_was_written_is_refused(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    for job in ("a", "b"):
        for name in ("1", "2"):
            spool.write(job, name, f"{job}{name}".encode())
    folder = tmp_path / "spool"
    moved = (folder / "a" / "1").read_bytes()
    (folder / "a" / "2").write_bytes(moved)
    (folder / "b" / "1").write_bytes(moved)
    (folder / "b" / "2").write_bytes(moved[:5])
    changed = bytearray(moved)
    changed[-1] ^= 1
    (folder / "a" / "1").write_bytes(changed)
    for job, name in (("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("a", "none"), ("none", "1")):
        with pytest.raises(Unreadable):
            spool.read(job, name)
    spool.close()


def test_another_protectors_key_reads_nothing(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, SPOOL_SECRET)
    spool.write("a", "1", b"x")
    spool.close()
    other = Spool.open(tmp_path, bytes(32))
    with pytest.raises(Unreadable):
        other.read("a", "1")
    other.close()


def test_files_and_jobs_are_deleted(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, SPOOL_SECRET)
    spool.write("a", "1", b"x")
    spool.write("a", "2", b"x")
    age = spool.age("a", "1")
    assert age is not None
    assert age >= 0
    spool.remove("a", "1")
    spool.remove("a", "1")
    assert [spool.has("a", "1"), spool.has("a", "2"), spool.age("a", "1")] == [False, True, None]
    spool.delete("a")
    spool.delete("a")
    assert list(spool.jobs()) == []
    spool.close()
    assert [each.name for each in tmp_path.iterdir()] == ["lock"]


def test_what_a_kill_left_half_deleted_is_no_job_and_goes(tmp_path: Path) -> None:
    (tmp_path / "a.deleted").mkdir()
    (tmp_path / "a.deleted" / "1").write_bytes(b"x")
    spool = Spool.open(tmp_path, SPOOL_SECRET)
    assert list(spool.jobs()) == []
    assert not (tmp_path / "a.deleted").exists()
    spool.close()


def test_two_services_do_not_share_a_spool(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    with pytest.raises(InvalidInput, match="used by another service"):
        Spool.open(tmp_path / "spool", SPOOL_SECRET)
    spool.close()
    Spool.open(tmp_path / "spool", SPOOL_SECRET).close()


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidInput, match="give another folder with --spool"):
        Spool.open(tmp_path / "file", SPOOL_SECRET)
