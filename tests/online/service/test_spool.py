import os
import stat
from pathlib import Path

import pytest
from tests.online.service.fakes import SPOOL_SECRET

from withhold.errors import InvalidInput
from withhold.online.service.spool import MARKER, Spool, Unreadable

A, B = "a" * 32, "0123456789abcdef" * 2


def test_what_is_written_is_read_after_a_restart(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    spool.write(A, "1.original", b"first")
    spool.write(A, "2.original", b"")
    spool.write(B, "1.original", b"third")
    spool.close()
    again = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    assert sorted(again.jobs()) == sorted([A, B])
    assert [again.read(*place) for place in ((A, "1.original"), (A, "2.original"), (B, "1.original"))] == [
        b"first",
        b"",
        b"third",
    ]
    again.close()


def test_nothing_on_disk_says_what_was_written_and_nobody_else_may_look(tmp_path: Path) -> None:
    os.umask(0o022)
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    spool.write(A, "1.original", b"the picture itself " * 50)
    spool.write(A, "2.original", b"the picture itself " * 50)
    first, second = ((tmp_path / "spool" / A / f"{number}.original").read_bytes() for number in (1, 2))
    assert b"picture" not in first
    assert first[12:] != second[12:]
    for folder in (tmp_path / "spool", tmp_path / "spool" / A):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    spool.close()


def test_a_file_that_is_not_as_it_was_written_is_refused(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool", SPOOL_SECRET)
    for job in (A, B):
        for name in ("1", "2"):
            spool.write(job, name, f"{job}{name}".encode())
    folder = tmp_path / "spool"
    moved = (folder / A / "1").read_bytes()
    (folder / A / "2").write_bytes(moved)
    (folder / B / "1").write_bytes(moved)
    (folder / B / "2").write_bytes(moved[:5])
    changed = bytearray(moved)
    changed[-1] ^= 1
    (folder / A / "1").write_bytes(changed)
    for job, name in ((A, "1"), (A, "2"), (B, "1"), (B, "2"), (A, "none"), ("none", "1")):
        with pytest.raises(Unreadable):
            spool.read(job, name)
    spool.close()


def test_another_protectors_key_reads_nothing(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, SPOOL_SECRET)
    spool.write(A, "1", b"x")
    spool.close()
    other = Spool.open(tmp_path, bytes(32))
    with pytest.raises(Unreadable):
        other.read(A, "1")
    other.close()


def test_files_and_jobs_are_deleted(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, SPOOL_SECRET)
    spool.write(A, "1", b"x")
    spool.write(A, "2", b"x")
    age = spool.age(A, "1")
    assert age is not None
    assert age >= 0
    spool.remove(A, "1")
    spool.remove(A, "1")
    assert [spool.has(A, "1"), spool.has(A, "2"), spool.age(A, "1")] == [False, True, None]
    spool.delete(A)
    spool.delete(A)
    assert list(spool.jobs()) == []
    spool.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["lock", MARKER]


def test_files_are_counted_as_they_are_and_as_they_are_expected(tmp_path: Path) -> None:
    def on_disk() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("*/*"))

    spool = Spool.open(tmp_path, SPOOL_SECRET)
    assert spool.taken == 0
    spool.expect(A, {"1": 1000, "2": 500})
    spool.expect(B, {"1": 70})
    assert spool.taken == 1570
    spool.write(A, "1", b"short")
    assert spool.taken == on_disk() + 570
    spool.write(A, "1", b"longer than before")
    spool.write(A, "3", b"")
    assert spool.taken == on_disk() + 570
    spool.remove(A, "2")
    spool.delete(B)  # of which there is no file yet
    assert spool.taken == on_disk() > 0
    (tmp_path / A / ".half.partial").write_bytes(b"of a file that a kill interrupted")
    spool.close()
    again = Spool.open(tmp_path, SPOOL_SECRET)
    assert again.taken == spool.taken
    again.delete(A)
    assert again.taken == 0
    again.close()


def test_what_a_kill_left_half_deleted_is_no_job_and_goes(tmp_path: Path) -> None:
    Spool.open(tmp_path, SPOOL_SECRET).close()
    (tmp_path / f"{A}.deleted").mkdir()
    (tmp_path / f"{A}.deleted" / "1").write_bytes(b"x")
    spool = Spool.open(tmp_path, SPOOL_SECRET)
    assert list(spool.jobs()) == []
    assert not (tmp_path / f"{A}.deleted").exists()
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


def test_a_folder_with_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "holiday.deleted").mkdir(parents=True)
    (folder / A).mkdir()
    folder.chmod(0o755)
    with pytest.raises(InvalidInput, match=r"data is not empty and is no spool; name another one.*data/spool"):
        Spool.open(folder, SPOOL_SECRET)
    assert sorted(each.name for each in folder.iterdir()) == sorted(["holiday.deleted", A])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    Spool.open(folder / "spool", SPOOL_SECRET).close()


def test_an_empty_folder_becomes_a_spool_with_the_mode_that_it_had(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    Spool.open(tmp_path, SPOOL_SECRET).close()
    Spool.open(tmp_path, SPOOL_SECRET).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_start_that_ended_early_leaves_a_folder_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    Spool.open(tmp_path, SPOOL_SECRET).close()
    assert (tmp_path / MARKER).exists()


def test_in_a_spool_only_what_jobs_are_called_is_touched(tmp_path: Path) -> None:
    Spool.open(tmp_path, SPOOL_SECRET).close()
    others = ["lost+found", "backup.deleted", f"{A}0.deleted", f"{A[:-1]}"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / B).touch()
    spool = Spool.open(tmp_path, SPOOL_SECRET)
    assert list(spool.jobs()) == []
    spool.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["lock", MARKER, B, *others])
