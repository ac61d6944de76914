import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.release.fakes import (
    Listener,
    UniformCrafter,
    class_folders,
    interrupt,
    interrupted,
    make_uniform,
    never,
    pixels,
    png,
    settings,
    stopping,
    tree,
)

from withhold.data.dataset import Entry
from withhold.data.folder import FolderWriter
from withhold.errors import InvalidInput, RunStopped
from withhold.release.materials import Materials
from withhold.release.run import run
from withhold.release.sidecar import Sidecar


def test_an_interrupted_run_is_resumed_and_ends_in_the_same_bytes(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "whole", settings(), make_uniform)
    listener = Listener()
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", settings(), stopping(interrupt), listener)
    assert "same command" in listener.said[-1]
    assert not (tmp_path / "out").exists()
    report = run(source, tmp_path / "out", settings(device="cpu"), make_uniform)
    assert report.crafted == 8
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_finished_release_is_verified_again_and_nothing_is_redone(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", settings(), make_uniform)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    report = run(source, tmp_path / "out", settings(), never)
    assert (report.crafted, report.images, report.verification.checked) == (0, 12, 12)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_finished_release_that_was_altered_is_refused_and_kept(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", settings(), make_uniform)
    shutil.copy(source / "cat" / "0.png", tmp_path / "out" / "cat" / "0.png")
    with pytest.raises(InvalidInput, match=r"cat/0\.png is unchanged"):
        run(source, tmp_path / "out", settings(), never)


def test_a_deleted_release_is_made_anew(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", settings(), make_uniform)
    expected = tree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert run(source, tmp_path / "out", settings(), make_uniform).crafted == 12
    assert tree(tmp_path / "out") == expected


def test_foreign_files_that_appear_during_a_run_are_never_overwritten(source: Path, tmp_path: Path) -> None:
    def appear() -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("my only copy")

    with pytest.raises(RunStopped, match="clear the way"):
        run(source, tmp_path / "out", settings(), stopping(appear))
    with pytest.raises(InvalidInput, match="holds files"):
        run(source, tmp_path / "out", settings(), never)
    assert tree(tmp_path / "out") == {"thesis.txt": b"my only copy"}
    shutil.rmtree(tmp_path / "out")
    assert run(source, tmp_path / "out", settings(), never).images == 12


def test_changed_settings_are_named(source: Path, tmp_path: Path) -> None:
    interrupted(source, tmp_path / "out")
    with pytest.raises(InvalidInput) as caught:
        run(source, tmp_path / "out", settings(steps=7, seed=2), never)
    assert "seed was 0 and is now 2" in str(caught.value)
    assert "steps was 40 and is now 7" in str(caught.value)
    assert str(caught.value).count(" was ") == 2


def test_other_surrogate_weights_are_refused(source: Path, tmp_path: Path) -> None:
    interrupted(source, tmp_path / "out")
    with pytest.raises(InvalidInput, match="surrogate's weights are others"):
        run(source, tmp_path / "out", settings(), never, fingerprint="abc")


def test_another_version_does_not_resume_but_verifies(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, tmp_path / "done", settings(), make_uniform)
    interrupted(source, tmp_path / "out")
    monkeypatch.setattr("withhold.release.stored_plan.__version__", "99")
    with pytest.raises(InvalidInput, match="is now 99"):
        run(source, tmp_path / "out", settings(), never)
    assert run(source, tmp_path / "done", settings(), never).verification.passed


def test_an_image_that_changes_during_the_run_stops_it(source: Path, tmp_path: Path) -> None:
    def change_all() -> None:
        for path in source.rglob("*.png"):
            path.write_bytes(png(pixels(99)))

    def make(materials: Materials) -> UniformCrafter:
        change_all()
        return make_uniform(materials)

    with pytest.raises(RunStopped, match=r"\.png has changed since the run began"):
        run(source, tmp_path / "out", settings(), make)


def test_a_second_run_is_told_who_is_at_work(source: Path, tmp_path: Path) -> None:
    found: list[str] = []

    def run_again() -> None:
        with pytest.raises(InvalidInput) as caught:
            run(source, tmp_path / "out", settings(), never)
        found.append(str(caught.value))

    report = run(source, tmp_path / "out", settings(), stopping(run_again))
    assert f"another run is at work on {tmp_path / 'out'}: process {os.getpid()} on " in found[0]
    assert report.images == 12


def test_a_full_disk_while_images_are_written_keeps_what_is_whole(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FolderWriter.write

    def full_at_the_second(self: FolderWriter, batch: int, images: Sequence[tuple[Entry, bytes]]) -> None:
        if batch == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, batch, images)

    run(source, tmp_path / "whole", settings(), make_uniform)
    with monkeypatch.context() as patched:
        patched.setattr(FolderWriter, "write", full_at_the_second)
        with pytest.raises(RunStopped, match="no space left") as caught:
            run(source, tmp_path / "out", settings(), make_uniform)
    assert caught.value.exit_code == 3
    assert 0 in Sidecar(tmp_path / "out").finished()
    report = run(source, tmp_path / "out", settings(), make_uniform)
    assert report.crafted <= 8
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def succeeds(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_disk_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("withhold.release.run.check_room", lambda *_: None)
    # Not below tmp_path: a later test session would clear that away under the mounted disk.
    small = Path(tempfile.mkdtemp(prefix="withhold-small-disk-"))
    if os.system(f"mount -t tmpfs -o size=200k tmpfs {small} 2>/dev/null"):
        small.rmdir()
        pytest.skip("mounting is not allowed here")
    try:
        source = class_folders(tmp_path / "in", per_class=4, side=96)
        with pytest.raises(RunStopped, match="no space left"):
            run(source, small / "out", settings(), make_uniform)
        finished = len(Sidecar(small / "out").finished())
        os.system(f"mount -o remount,size=4m {small}")
        report = run(source, small / "out", settings(), make_uniform)
        assert report.batches - finished == -(-report.crafted // 4)
        assert report.verification.passed
    finally:
        os.system(f"umount -l {small}")
        small.rmdir()


def test_a_released_file_damaged_before_publication_is_made_again(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "whole", settings(), make_uniform)

    class Damaging(Listener):
        def start(self, task: str, total: int, unit: str) -> None:
            super().start(task, total, unit)
            if task == "Verifying":
                (tmp_path / "out.withhold" / "release" / "dog" / "1.png").write_bytes(b"half")

    with pytest.raises(RunStopped, match=r"dog/1\.png is unreadable in the release.*Nothing was published"):
        run(source, tmp_path / "out", settings(), make_uniform, Damaging())
    assert not (tmp_path / "out").exists()
    report = run(source, tmp_path / "out", settings(), make_uniform)
    assert report.crafted == 4
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_stray_file_among_the_staged_is_named_and_costs_no_batch(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "whole", settings(), make_uniform)
    stray = tmp_path / "out.withhold" / "release" / "Thumbs.db"

    class Littering(Listener):
        def start(self, task: str, total: int, unit: str) -> None:
            super().start(task, total, unit)
            if task == "Crafting":
                stray.write_bytes(b"x")

    with pytest.raises(RunStopped, match=r"Thumbs\.db is in the release, but is no image .*remove from .*release what"):
        run(source, tmp_path / "out", settings(), make_uniform, Littering())
    assert len(Sidecar(tmp_path / "out").finished()) == 3
    with pytest.raises(RunStopped, match=r"Thumbs\.db"):
        run(source, tmp_path / "out", settings(), never)
    stray.unlink()
    assert run(source, tmp_path / "out", settings(), never).verification.passed
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_what_a_killed_start_left_of_an_unfinished_file_is_not_published(source: Path, tmp_path: Path) -> None:
    interrupted(source, tmp_path / "out")
    (tmp_path / "out.withhold" / "release" / "cat" / ".0123456789abcdef.partial").write_bytes(b"half")
    run(source, tmp_path / "out", settings(), make_uniform)
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_plan_under_which_nothing_was_finished_binds_nobody(source: Path, tmp_path: Path) -> None:
    def fail(_: Materials) -> UniformCrafter:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(source, tmp_path / "out", settings(seed=1), fail)
    assert Sidecar(tmp_path / "out").plan_document.exists()
    listener = Listener()
    run(source, tmp_path / "out", settings(seed=2), make_uniform, listener)
    assert "planned otherwise" in listener.said[0]
    run(source, tmp_path / "whole", settings(seed=2), make_uniform)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
