"""Running cells: one after another here, or several at a time in processes of their own."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from queue import Queue

import torch
import torch.multiprocessing

from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation.results import Cell, CellResult
from withhold.evaluation.settings import EvaluateSettings
from withhold.evaluation.training import Harness
from withhold.networks.choose import resolve_device


@dataclass(frozen=True, slots=True, eq=False)
class Workers:
    """Where cells are run.

    Attributes:
        devices: Used in turn, one for each job.
        jobs: Cells at a time.
    """

    devices: tuple[torch.device, ...]
    jobs: int

    def run(self, cells: Sequence[Cell], harness: Harness) -> Iterator[CellResult]:
        """Yield results as they are finished, in any order.

        Raises:
            RunStopped: A process was killed; what was finished was yielded.
        """
        if self.jobs == 1:
            yield from map(harness.run, cells)
        else:
            yield from self._in_processes(cells, harness)

    def _in_processes(self, cells: Sequence[Cell], harness: Harness) -> Iterator[CellResult]:
        context = torch.multiprocessing.get_context("spawn")
        names: Queue[str] = context.Manager().Queue()
        for job in range(self.jobs):
            names.put(str(self.devices[job % len(self.devices)]))
        threads = max(1, torch.get_num_threads() // self.jobs)
        pool = ProcessPoolExecutor(self.jobs, context, _begin, (harness, names, threads))
        try:
            under_way = [pool.submit(_run, cell) for cell in cells]
            for future in as_completed(under_way):
                yield future.result()
        except BrokenProcessPool as error:
            msg = "a training process was killed, perhaps for lack of memory; run the command again, with fewer --jobs"
            raise RunStopped(msg) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def workers(settings: EvaluateSettings) -> Workers:
    """Resolve devices and jobs.

    Raises:
        InvalidInput: A device is not there, or there are more devices than jobs.
    """
    devices = tuple(resolve_device(name.strip()) for name in settings.device.split(","))
    if len(devices) > settings.jobs:
        msg = f"{len(devices)} devices need as many jobs, one for each; got --jobs {settings.jobs}"
        raise InvalidInput(msg)
    return Workers(devices, settings.jobs)


_harness: Harness | None = None


def _begin(harness: Harness, names: "Queue[str]", threads: int) -> None:
    """Set up one worker process; tensors arrive in shared memory."""
    global _harness  # noqa: PLW0603 - a process of a pool has no other place to keep what all its tasks share
    torch.set_num_threads(threads)
    _harness = replace(harness, device=torch.device(names.get()))


def _run(cell: Cell) -> CellResult:
    assert _harness is not None
    return _harness.run(cell)
