"""Cells on a real Ray cluster of this machine."""

import os
import signal
from pathlib import Path

import pytest
from tests.evaluation.test_jobs import CELLS, CPU, Odd
from tests.release.fakes import Listener

from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation.jobs import workers
from withhold.evaluation.results import Cell
from withhold.evaluation.settings import EvaluateSettings

ROOT = Path(__file__).parents[2]


class Killed(Odd):
    """Kill the process at one cell, the first time; fail at another one."""

    def run(self, cell: Cell) -> Cell:  # type: ignore[override]
        place: Path = self.settings  # type: ignore[assignment]
        if cell.seed == 1 and not (place / "killed").exists():
            (place / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(cell)


def test_a_killed_cell_is_run_again_and_a_failing_one_does_not_cost_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    finished: set[object] = set()
    harness = Killed(2, tmp_path, CPU)  # type: ignore[arg-type]
    settings = EvaluateSettings(engine="ray", jobs=2, device="cpu")
    listener = Listener()
    with (
        workers(settings, listener) as where,
        pytest.raises(RunStopped, match=r"1 of 4 trainings failed; .*seed 2: InvalidInput: this cell fails"),
    ):
        finished.update(where.run(CELLS, harness, listener))
    assert finished == {CELLS[0], CELLS[1], CELLS[3]}
    assert (tmp_path / "killed").exists()
    assert listener.counts["retries"] == 1


def test_a_cluster_that_is_not_there_is_refused_before_any_work() -> None:
    nowhere = EvaluateSettings(engine="ray", address="127.0.0.1:1")
    with pytest.raises(InvalidInput, match=r"no Ray cluster at 127\.0\.0\.1:1"), workers(nowhere):
        pass
    absent = EvaluateSettings(engine="ray", gpus_per_job=1, device="cpu")
    with pytest.raises(InvalidInput, match="jobs with 1 GPUs compute on cuda"), workers(absent):
        pass
    odd = EvaluateSettings(engine="ray", gpus_per_job=1.5, device="cpu")
    with pytest.raises(InvalidInput, match=r"a job has a share of one GPU.*got 1\.5"), workers(odd):
        pass
    with pytest.raises(ValueError, match="--engine ray"):
        EvaluateSettings(address="auto")
