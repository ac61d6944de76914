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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from withhold.cluster import check_machines, check_room, joined, versions
from withhold.data.atomic import write_as
from withhold.data.parallel import THREADS
from withhold.data.place import Place
from withhold.errors import InvalidInput
from withhold.progress import Reporter
from withhold.release.engines.batches import Batch, Finish, Record, Work
from withhold.release.engines.options import EngineOptions
from withhold.release.environment import reproducing
from withhold.remote_workers import RemoteWorkers, refused

HELD = 3
"""Batches that a worker has at a time: one is read, one crafted, one written."""


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
        if self._work.shared is not None and not (self._work.shared / probe).exists():
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
        probe = f".{uuid.uuid4().hex[:16]}.partial"  # what a kill leaves of it is cleared as such
        if work.shared is not None:
            (work.shared / probe).touch()
        portable = self.ray.put(replace(work, crafter=work.crafter.on("cpu")))
        make = self.ray.remote(Worker).options(
            num_cpus=work.environment.threads, num_gpus=self.gpus, max_concurrency=HELD
        )

        def start() -> tuple[Any, Any]:
            actor = make.remote(portable, self.device)
            return actor, actor.ready.remote(probe)

        workers = RemoteWorkers[Batch, tuple[Record, float]](
            self.ray, start, self.workers, reporter, held=HELD, again=lambda error: not refused(error), overtaking=True
        )
        total = 0.0
        try:
            with contextlib.closing(workers.run(batches)) as outcomes:
                for batch, outcome in outcomes:
                    if isinstance(outcome, Exception):
                        raise outcome
                    record, seconds = outcome
                    finish(batch.number, record)
                    reporter.advance(len(batch.entries))
                    total += seconds
        finally:
            if work.shared is not None:
                (work.shared / probe).unlink(missing_ok=True)
        return total


@contextlib.contextmanager
def on_ray(options: EngineOptions, places: Sequence[Place], reporter: Reporter) -> Iterator[OnRay]:
    """Join or start a cluster, and check that it can do the work.

    Args:
        places: That every machine must see.

    Raises:
        InvalidInput: There is no cluster, it has no room for a worker, or machines of it lack Withhold or have another
            version.
    """
    cpus = max(options.workers or 0, os.cpu_count() or 1)
    with joined(options.address, cpus, reporter.say) as ray:
        room = check_room(ray.cluster_resources(), options.gpus_per_worker)
        if options.address is not None:
            check_machines(ray, facts, places)
        workers = options.workers or room
        if workers > room:
            reporter.say(f"There is room for {room} of {workers} workers now; the others start when there is more.")
        yield OnRay(ray, workers, options.gpus_per_worker)


def facts(places: Sequence[Place]) -> dict[str, str]:
    """Name what must be the same on every machine: versions that results depend on, and files."""
    seen = {str(place): "in its file system" if place.exists() else "not in its file system" for place in places}
    return versions() | seen
