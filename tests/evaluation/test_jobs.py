import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation.jobs import Workers
from withhold.evaluation.results import Cell
from withhold.evaluation.training import Harness

LONG = 600.0
CPU = torch.device("cpu")
CELLS = [Cell("released", "none", "resnet9", seed) for seed in range(4)]


class Odd(Harness):
    """Fail for one seed and give the others back; without such a seed, take long."""

    def run(self, cell: Cell) -> Cell:  # type: ignore[override]
        (self.settings / str(os.getpid())).touch()  # type: ignore[operator]
        if self.sets is None:
            time.sleep(LONG)
        if cell.seed == self.sets:  # type: ignore[comparison-overlap]
            raise InvalidInput("this cell fails")
        return cell


def odd(folder: Path, failing: int | None) -> Odd:
    return Odd(failing, folder, CPU)  # type: ignore[arg-type]


def alive(folder: Path) -> list[int]:
    """List the workers that are still there; those that ended and were not waited for have no command line."""
    return [int(path.name) for path in folder.iterdir() if _command(int(path.name))]


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failing_cell_does_not_cost_the_others(tmp_path: Path) -> None:
    finished: set[object] = set()
    with pytest.raises(RunStopped, match=r"1 of 4 trainings failed; .*seed 0: InvalidInput: this cell fails"):  # noqa: PT012
        for result in Workers((CPU,), 2).run(CELLS, odd(tmp_path, 0)):
            finished.add(result)
    assert finished == set(CELLS[1:])
    assert multiprocessing.active_children() == []


def test_an_interrupt_ends_the_workers_at_once(tmp_path: Path) -> None:
    results = Workers((CPU,), 2).run(CELLS, odd(tmp_path, 3))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from tests.evaluation.test_jobs import CELLS, CPU, Workers, odd\n"
        "if __name__ == '__main__':\n"
        f"    list(Workers((CPU,), 2).run(CELLS, odd(Path({str(tmp_path)!r}), None)))\n"
    )
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(code)
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(tmp_path))
