"""Running cells: one after another here, or several at a time in processes of their own."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from typing import Any, ClassVar, Protocol, TypeVar

import torch
import torch.multiprocessing

from withhold.cluster import check_gpus, check_machines, check_room, joined, versions
from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation.settings import SharedSettings
from withhold.networks.choose import resolve_devices
from withhold.processes import end_with
from withhold.progress import SILENT, Reporter
from withhold.remote_workers import RemoteWorkers


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
class Cluster:
    """A Ray cluster on which cells are run.

    Attributes:
        ray: The module, joined to it.
        gpus: Of each job.
    """

    ray: Any
    gpus: float

    def run(
        self, cells: Sequence[AnyTask], harness: Runner[AnyTask, Outcome], jobs: int, reporter: Reporter
    ) -> Iterator[tuple[AnyTask, Outcome | Exception]]:
        """Yield each cell with its result, or with what it raised.

        Raises:
            RunStopped: A cell ended several workers, or none starts.
        """
        kept = self.ray.put(replace(harness, device=torch.device("cpu")))
        make = self.ray.remote(Trainer).options(num_cpus=1, num_gpus=self.gpus)

        def start() -> tuple[Any, Any]:
            actor = make.remote(kept, "cuda" if self.gpus else "cpu")
            return actor, actor.ready.remote()

        return RemoteWorkers[AnyTask, Outcome](self.ray, start, min(jobs, len(cells)), reporter).run(cells)


class Trainer:
    """Runs cells in a worker of a cluster; its data come once."""

    def __init__(self, harness: Runner[Any, Any], device: str) -> None:
        torch.set_num_threads(1)
        self._harness = replace(harness, device=torch.device(device))

    def ready(self) -> None:
        """Return, as a sign that the worker started."""

    def run(self, cell: Task) -> Any:  # noqa: ANN401 - whatever the runner gives
        """Run a cell."""
        return self._harness.run(cell)


@dataclass(frozen=True, slots=True, eq=False)
class Workers:
    """Where cells are run.

    Attributes:
        devices: Used in turn, one for each job.
        jobs: Cells at a time.
        cluster: Where they are, if not here.
    """

    devices: tuple[torch.device, ...]
    jobs: int
    cluster: Cluster | None = None

    @property
    def threads(self) -> int:
        """Count the threads of each job."""
        return max(1, torch.get_num_threads() // self.jobs)

    def run(
        self, cells: Sequence[AnyTask], harness: Runner[AnyTask, Outcome], reporter: Reporter = SILENT
    ) -> Iterator[Outcome]:
        """Yield results as they are finished, in any order.

        A cell that fails does not keep the others from being trained.

        Raises:
            RunStopped: A process was killed or some cells failed; what was finished was yielded.
        """
        failures: list[tuple[AnyTask, Exception]] = []
        for cell, outcome in self._outcomes(cells, harness, reporter):
            if isinstance(outcome, Exception):
                failures.append((cell, outcome))
            else:
                yield outcome
        if failures:
            cell, error = failures[0]
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            msg = f"{len(failures)} of {len(cells)} trainings failed; {cell.name}: {reason}. The others are kept."
            raise RunStopped(msg) from error

    def _outcomes(
        self, cells: Sequence[AnyTask], harness: Runner[AnyTask, Outcome], reporter: Reporter
    ) -> Iterator[tuple[AnyTask, Outcome | Exception]]:
        if self.cluster is not None:
            return self.cluster.run(cells, harness, self.jobs, reporter)
        return self._here(cells, harness) if self.jobs == 1 else self._in_processes(cells, harness)

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


@contextmanager
def workers(settings: SharedSettings, reporter: Reporter = SILENT) -> Iterator[Workers]:
    """Resolve devices and jobs, and join the cluster that the settings name.

    Raises:
        InvalidInput: A device is not there, there are more devices than jobs, or there is no cluster that could run
            them.
    """
    devices = resolve_devices(settings.device)
    if len(devices) > settings.jobs:
        msg = f"{len(devices)} devices need as many jobs, one for each; got --jobs {settings.jobs}"
        raise InvalidInput(msg)
    if settings.engine != "ray":
        yield Workers(devices, settings.jobs)
        return
    gpus = settings.gpus_per_job
    check_gpus(gpus, kind="job")
    _check_kind(devices, gpus)
    with joined(settings.address, max(settings.jobs, os.cpu_count() or 1), reporter.say) as ray:
        room = check_room(ray.cluster_resources(), gpus, kind="job")
        if settings.address is not None:
            check_machines(ray, versions)
        if settings.jobs > room:
            reporter.say(f"There is room for {room} of {settings.jobs} jobs now; the others start when there is more.")
        yield Workers(devices, settings.jobs, Cluster(ray, gpus))


def _check_kind(devices: Sequence[torch.device], gpus: float) -> None:
    """Refuse jobs on another type of device than this machine's, by which results are kept.

    Raises:
        InvalidInput: They would compute on another one.
    """
    kind = "cuda" if gpus else "cpu"
    if {device.type for device in devices} != {kind}:
        msg = (
            f"the device here is {devices[0].type}, and jobs with {gpus:g} GPUs compute on {kind}; "
            f"give --device {kind}, or change --gpus-per-job"
        )
        raise InvalidInput(msg)


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
