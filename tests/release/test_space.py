import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.release.fakes import Listener, class_folders, interrupted, make_uniform, never, pixels, png, settings, tree
from tests.release.test_dry_run import fake

from withhold.errors import RunStopped
from withhold.release.dry_run import estimate
from withhold.release.run import protect, run
from withhold.release.space import check_room


def leave_free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    usage = shutil._ntuple_diskusage(10**12, 10**12 - count, count)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def released_size(root: Path) -> int:
    return sum(len(content) for name, content in tree(root).items() if name != "release.json")


def test_the_numbers_are_stated_and_places_that_do_not_exist_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(monkeypatch, 1000)
    check_room(tmp_path / "a" / "b", 1000)
    with pytest.raises(RunStopped, match="about 1,001 bytes are needed and 1,000 are free") as caught:
        check_room(tmp_path / "a" / "b", 1001)
    assert caught.value.exit_code == 3


def test_a_run_that_would_not_fit_stops_before_it_crafts_and_goes_on_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = class_folders(tmp_path / "photos", side=64)
    run(source, tmp_path / "whole", settings(), make_uniform)
    size = released_size(tmp_path / "whole")
    with monkeypatch.context() as patched:
        leave_free(patched, int(0.9 * size))
        with pytest.raises(RunStopped, match="not enough space"):
            run(source, tmp_path / "out", settings(), never)
        with pytest.raises(RunStopped, match="not enough space"):
            estimate(source, tmp_path / "new", settings(), fake)
        leave_free(patched, int(1.1 * size))
        run(source, tmp_path / "out", settings(), make_uniform)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_resumed_run_needs_room_for_the_rest_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = class_folders(tmp_path / "photos", side=64)
    run(source, tmp_path / "whole", settings(), make_uniform)
    interrupted(source, tmp_path / "out")
    leave_free(monkeypatch, int(0.75 * released_size(tmp_path / "whole")))
    assert run(source, tmp_path / "out", settings(), make_uniform).crafted == 8


def test_shards_need_room_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"image": {"bytes": png(pixels(i, 64, 64)), "path": "a.png"}, "label": i % 3} for i in range(6)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "whole", settings(), make_uniform)
    leave_free(monkeypatch, int(1.8 * released_size(tmp_path / "whole")))
    with pytest.raises(RunStopped, match="not enough space"):
        run(tmp_path / "in.parquet", tmp_path / "out", settings(), never)


def test_the_weights_are_reckoned_with_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = class_folders(tmp_path / "photos", side=16)
    leave_free(monkeypatch, 500_000)  # enough for the release, not for 270,000 parameters of 4 bytes
    listener = Listener()
    with pytest.raises(RunStopped, match="not enough space"):
        protect(source, tmp_path / "out", settings(epochs=1, steps=1, architecture="resnet20"), reporter=listener)
    assert "Training the surrogate" not in [task for task, _ in listener.tasks]
    assert torch.get_num_threads() == 1
