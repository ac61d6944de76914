"""The engine of a Ray cluster: workers on any machines, each with the surrogate in memory, given one batch at a time.

The batches of the plan are what is handed out, so a release does not depend on who crafted what, or how often. Ray
Data cuts a dataset into blocks of its own and tries a block again as a whole; it could keep neither the company in
which images are crafted nor the record of what is finished. Actors can, and Ray places and supervises them.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from withhold.cluster import joined
from withhold.data.atomic import write_as
from withhold.data.parallel import THREADS
from withhold.errors import InvalidInput, RunStopped, WithholdError
from withhold.progress import Reporter
from withhold.release.engines.batches import Batch, Finish, Record, Work
from withhold.release.engines.options import EngineOptions
from withhold.release.environment import reproducing
from withhold.version import __version__

HELD = 3
"""Batches that a worker has at a time: one is read, one crafted, one written."""

TRIES = 4
"""Attempts at a batch before the run stops: something about it ends the workers, or their storage fails."""

STARTS = 3
"""Workers in a row that fail to start before the run stops."""

PATIENCE = 30.0
"""Seconds without any worker after which that is said."""

ANSWERED_WITHIN = 120.0
"""Seconds within which a machine must say what it has; the first call on it starts a process and imports PyTorch."""


class Worker:
    """Crafts batches. Several calls may be under way, of which one reads, one crafts, and the others write."""

    def __init__(self, work: Work, device: str) -> None:
        # A batch may be given to two workers; neither must write into what the other has not finished.
        write_as(f"{time.time_ns()}")
        self._work = replace(work, crafter=work.crafter.on(device))
        self._codec = ThreadPoolExecutor(THREADS, "withhold-codec")
        self._reading, self._crafting = threading.Lock(), threading.Lock()

    def ready(self, probe: str) -> None:
        """Return, as a sign that the worker started and can work.

        Args:
            probe: Name of a file that the driver put into the shared folder.

        Raises:
            InvalidInput: It is not there.
        """
        if not (self._work.shared / probe).exists():
            msg = (
                f"{socket.gethostname()} does not see {self._work.shared}; source and destination must lie on storage "
                "that every machine of the cluster has at the same path"
            )
            raise InvalidInput(msg)

    def run(self, batch: Batch) -> tuple[Record, float]:
        """Craft and store a batch.

        Returns:
            Its record, and the seconds of crafting.
        """
        with self._reading:
            pictures = self._work.load(batch, self._codec)
        with self._crafting, reproducing(self._work.environment):
            began = time.monotonic()
            crafted = self._work.craft(batch, pictures)
            seconds = time.monotonic() - began
        return self._work.store(batch, pictures, crafted, self._codec), seconds


@dataclass(frozen=True, slots=True, eq=False)
class OnRay:
    """Works on a cluster that was joined; see `on_ray`.

    Attributes:
        ray: The module.
        workers: Wanted; there are fewer where the cluster has no room, until it has.
        gpus: Of each worker.
    """

    ray: Any
    workers: int
    gpus: float

    @property
    def device(self) -> str:
        """Where a worker computes; Ray shows it its own GPUs only."""
        return "cuda" if self.gpus else "cpu"

    @property
    def threads(self) -> int | None:
        """Threads of a worker in a new plan: on processors many workers do more than many threads."""
        return None if self.gpus else 1

    def work_off(self, work: Work, batches: Iterable[Batch], finish: Finish, reporter: Reporter) -> float:
        """Craft and store batches; see `Engine`. `finish` is called in this thread.

        Raises:
            RunStopped: The work cannot go on: workers do not start, or a batch ended several of them.
        """
        probe = work.shared / f".{uuid.uuid4().hex[:16]}.partial"  # what a kill leaves of it is cleared as such
        probe.touch()
        dispatch = _Dispatch(self, work, iter(batches), finish, reporter, probe=probe.name)
        try:
            return dispatch.run()
        finally:
            dispatch.dismiss()
            probe.unlink(missing_ok=True)


@dataclass(eq=False, slots=True)
class _Member:
    """A worker as the driver sees it.

    Attributes:
        batches: That it holds.
    """

    actor: Any
    batches: int = 0


class _Dispatch:
    """Hands batches out to workers until each is finished, and replaces workers that are lost.

    A worker without anything to do is given what another one has not finished, so that nobody waits for the slowest;
    the first to finish counts, and a second result is the same anyway.
    """

    def __init__(
        self, engine: OnRay, work: Work, todo: Iterator[Batch], finish: Finish, reporter: Reporter, *, probe: str
    ) -> None:
        self._probe = probe
        self._ray, self._todo, self._finish, self._reporter = engine.ray, todo, finish, reporter
        self._device = engine.device
        self._work = self._ray.put(replace(work, crafter=work.crafter.on("cpu")))
        self._make = self._ray.remote(Worker).options(
            num_cpus=work.environment.threads, num_gpus=engine.gpus, max_concurrency=HELD
        )
        self._starting: dict[Any, _Member] = {}
        self._working: list[_Member] = []
        self._held: dict[Any, tuple[_Member, Batch]] = {}
        self._copies: Counter[int] = Counter()
        self._finished_once: set[int] = set()  # of those that somebody still holds
        self._again: deque[Batch] = deque()
        self._exhausted = False
        self._tries: Counter[int] = Counter()
        self._failed_starts = self._retries = 0
        self._seconds = 0.0
        for _ in range(engine.workers):
            self._hire()

    def run(self) -> float:
        """Work until everything is finished, and return the seconds of crafting."""
        while True:
            self._hand_out()
            if self._exhausted and not self._again and self._finished_once.issuperset(self._copies):
                return self._seconds
            self._reporter.status(workers=len(self._working), retries=self._retries)
            found, _ = self._ray.wait([*self._starting, *self._held], num_returns=1, timeout=PATIENCE)
            for reference in found:
                if reference in self._starting:
                    self._greet(reference)
                else:
                    self._take(reference)
            if not found and not self._working:
                self._reporter.say("No worker is there yet; waiting for machines with room for one.")

    def dismiss(self) -> None:
        """End all workers."""
        for member in [*self._starting.values(), *self._working]:
            self._ray.kill(member.actor)

    def _hire(self) -> None:
        member = _Member(self._make.remote(self._work, self._device))
        self._starting[member.actor.ready.remote(self._probe)] = member

    def _greet(self, reference: Any) -> None:  # noqa: ANN401 - of Ray
        """Take in a worker that started, or replace one that failed to.

        Raises:
            RunStopped: Several in a row failed.
            InvalidInput: It cannot work where it is.
        """
        member = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                msg = (
                    f"{STARTS} workers in a row failed to start, the last one with: {reason_of(error)}. See the logs "
                    "of Ray on their machines. Finished batches are kept; run the same command again to go on."
                )
                raise RunStopped(msg) from error
            self._hire()
        else:
            self._working.append(member)
            self._failed_starts = 0

    def _hand_out(self) -> None:
        while self._working:
            member = min(self._working, key=lambda each: each.batches)
            batch = self._next(idle=member.batches == 0) if member.batches < HELD else None
            if batch is None:
                return
            self._held[member.actor.run.remote(batch)] = member, batch
            self._copies[batch.number] += 1
            member.batches += 1

    def _next(self, *, idle: bool) -> Batch | None:
        """Choose a batch: one to be tried again, one that is new, or for an idle worker one that another one has."""
        if self._again:
            return self._again.popleft()
        batch = next(self._todo, None)
        if batch is None:
            self._exhausted = True
            others = (each for _, each in self._held.values() if idle and self._copies[each.number] == 1)
            batch = next((each for each in others if each.number not in self._finished_once), None)
        return batch

    def _take(self, reference: Any) -> None:  # noqa: ANN401 - of Ray
        """Take a result, or see what became of it instead.

        Raises:
            RunStopped: The batch cannot be finished.
        """
        member, batch = self._held.pop(reference)
        member.batches -= 1
        self._copies[batch.number] -= 1
        try:
            record, seconds = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # raised in a worker, which goes on
            if isinstance(error.cause, WithholdError):
                raise error.cause from None
            self._try_again(batch, error)
        except self._ray.exceptions.RayError as error:
            self._replace(member)
            self._try_again(batch, error)
        else:
            if batch.number not in self._finished_once:
                self._finish(batch.number, record)
                self._reporter.advance(len(batch.entries))
                self._seconds += seconds
                self._finished_once.add(batch.number)
        if not self._copies[batch.number]:
            del self._copies[batch.number]
            self._finished_once.discard(batch.number)

    def _try_again(self, batch: Batch, error: Exception) -> None:
        if batch.number in self._finished_once or self._copies[batch.number]:
            return
        self._retries += 1
        self._tries[batch.number] += 1
        if self._tries[batch.number] >= TRIES:
            msg = (
                f"{TRIES} attempts at a batch with {batch.entries[0].name} failed, the last one with: "
                f"{reason_of(error)}. Finished batches are kept; run the same command again to go on."
            )
            raise RunStopped(msg) from error
        self._again.append(batch)

    def _replace(self, member: _Member) -> None:
        if member in self._working:  # each batch that it held says that it is lost
            self._working.remove(member)
            self._ray.kill(member.actor)
            self._hire()


@contextlib.contextmanager
def on_ray(options: EngineOptions, places: Sequence[Path], reporter: Reporter) -> Iterator[OnRay]:
    """Join or start a cluster, and check that it can do the work.

    Args:
        places: That every machine must see.

    Raises:
        InvalidInput: There is no cluster, it has no room for a worker, or machines of it lack Withhold or have another
            version.
    """
    cpus = max(options.workers or 0, os.cpu_count() or 1)
    with joined(options.address, cpus, reporter.say) as ray:
        room = check_room(ray.cluster_resources(), options)
        if options.address is not None:
            check_machines(ray, places)
        workers = options.workers or room
        if workers > room:
            reporter.say(f"There is room for {room} of {workers} workers now; the others start when there is more.")
        yield OnRay(ray, workers, options.gpus_per_worker)


def check_room(resources: Mapping[str, float], options: EngineOptions) -> int:
    """Count the workers that fit on a cluster.

    Raises:
        InvalidInput: Not a single one.
    """
    cpus, gpus, each = resources.get("CPU", 0.0), resources.get("GPU", 0.0), options.gpus_per_worker
    if each and gpus < each:
        msg = f"a worker needs {each:g} GPUs, and the cluster has {gpus:g}; add machines, or lower --gpus-per-worker"
        raise InvalidInput(msg)
    room = int(min(cpus, gpus / each)) if each else int(cpus)
    if room < 1:
        msg = f"a worker needs a processor, and the cluster has {cpus:g}; add machines to it"
        raise InvalidInput(msg)
    return room


def check_machines(ray: Any, places: Sequence[Path]) -> None:  # noqa: ANN401 - a module
    """Refuse machines that would compute otherwise than this one, or do not see what this one sees.

    Raises:
        InvalidInput: Names them, and what they lack.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - an extra

    own = facts(places)
    asked = {
        ray.remote(facts)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(places): node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"]
    }
    unfit = []
    for reference, address in asked.items():
        try:
            found = ray.get(reference, timeout=ANSWERED_WITHIN)
        except (ray.exceptions.RayError, TimeoutError) as error:
            unfit.append(f"{address} cannot run Withhold ({reason_of(error)})")
        else:
            unfit += [
                f"{address} has {name} {found[name]}, not {own[name]}" for name in own if found[name] != own[name]
            ]
    if unfit:
        msg = (
            f"{unfit[0]} ({len(unfit)} findings); every machine of the cluster needs the same versions, and the same "
            "files at the same paths"
        )
        raise InvalidInput(msg)


def facts(places: Sequence[Path]) -> dict[str, str]:
    """Name what must be the same on every machine: versions that results depend on, and files."""
    seen = {str(place): "in its file system" if place.exists() else "not in its file system" for place in places}
    return {"Withhold": __version__, "PyTorch": str(torch.__version__), **seen}


def reason_of(error: BaseException) -> str:
    """Give the one line that says what went wrong in another process."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(cause).__name__
