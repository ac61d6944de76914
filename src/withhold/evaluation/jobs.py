"""Running cells: one after another here, or several at a time in processes of their own."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from typing import Any, ClassVar, Protocol, TypeVar

import torch
import torch.multiprocessing

from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation.settings import SharedSettings
from withhold.networks.choose import resolve_devices
from withhold.processes import end_with


class Task(Protocol):
    """Something to run, with a name for messages."""

    @property
    def name(self) -> str:
        """Name it."""
        ...


AnyTask = TypeVar("AnyTask", bound=Task)
AnyTask_contra = TypeVar("AnyTask_contra", bound=Task, contravariant=True)
Outcome = TypeVar("Outcome")
Outcome_co = TypeVar("Outcome_co", covariant=True)


class Runner(Protocol[AnyTask_contra, Outcome_co]):
    """What all tasks share, as a dataclass with a field `device`: one copy of it for each process and its device."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def run(self, cell: AnyTask_contra, /) -> Outcome_co:
        """Run one task."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Workers:
    """Where cells are run.

    Attributes:
        devices: Used in turn, one for each job.
        jobs: Cells at a time.
    """

    devices: tuple[torch.device, ...]
    jobs: int

    @property
    def threads(self) -> int:
        """Count the threads of each job."""
        return max(1, torch.get_num_threads() // self.jobs)

    def run(self, cells: Sequence[AnyTask], harness: Runner[AnyTask, Outcome]) -> Iterator[Outcome]:
        """Yield results as they are finished, in any order.

        A cell that fails does not keep the others from being trained.

        Raises:
            RunStopped: A process was killed or some cells failed; what was finished was yielded.
        """
        failures: list[tuple[AnyTask, Exception]] = []
        for cell, outcome in self._here(cells, harness) if self.jobs == 1 else self._in_processes(cells, harness):
            if isinstance(outcome, Exception):
                failures.append((cell, outcome))
            else:
                yield outcome
        if failures:
            cell, error = failures[0]
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            msg = f"{len(failures)} of {len(cells)} trainings failed; {cell.name}: {reason}. The others are kept."
            raise RunStopped(msg) from error

    def _here(
        self, cells: Sequence[AnyTask], harness: Runner[AnyTask, Outcome]
    ) -> Iterator[tuple[AnyTask, Outcome | Exception]]:
        for cell in cells:
            try:
                yield cell, harness.run(cell)
            except Exception as error:
                yield cell, error

    def _in_processes(
        self, cells: Sequence[AnyTask], harness: Runner[AnyTask, Outcome]
    ) -> Iterator[tuple[AnyTask, Outcome | Exception]]:
        context = torch.multiprocessing.get_context("spawn")
        names = context.SimpleQueue()
        for job in range(self.jobs):
            names.put(str(self.devices[job % len(self.devices)]))
        # Nothing is sent through it: its other end is closed when this process has no use for the workers, or is gone.
        watched, held = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(self.jobs, context, _begin, (harness, names, self.threads, watched))
        try:
            under_way = {pool.submit(_run, cell): cell for cell in cells}
            for future in as_completed(under_way):
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    msg = "a training process was killed, perhaps for lack of memory; run again, with fewer --jobs"
                    raise RunStopped(msg) from error
                yield under_way[future], error if isinstance(error, Exception) else future.result()
        finally:
            # A training that is under way would hold up the end of this process for as long as it takes.
            held.close()
            pool.shutdown(cancel_futures=True)


def workers(settings: SharedSettings) -> Workers:
    """Resolve devices and jobs.

    Raises:
        InvalidInput: A device is not there, or there are more devices than jobs.
    """
    devices = resolve_devices(settings.device)
    if len(devices) > settings.jobs:
        msg = f"{len(devices)} devices need as many jobs, one for each; got --jobs {settings.jobs}"
        raise InvalidInput(msg)
    return Workers(devices, settings.jobs)


_harness: Runner[Any, Any] | None = None


def _begin(harness: Runner[Any, Any], names: "SimpleQueue[str]", threads: int, watched: Connection) -> None:
    """Set up one worker process; tensors arrive in shared memory."""
    global _harness  # noqa: PLW0603 - a process of a pool has no other place to keep what all its tasks share
    end_with(watched)
    torch.set_num_threads(threads)
    _harness = replace(harness, device=torch.device(names.get()))


def _run(cell: Task) -> Any:  # noqa: ANN401 - whatever the runner gives
    assert _harness is not None
    return _harness.run(cell)
