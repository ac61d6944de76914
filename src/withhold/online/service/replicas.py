"""Crafting in replicas on any machines of a Ray cluster, behind the same seam as the crafting of a single process."""

import asyncio
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ray import serve
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from withhold.data.pixels import Picture
from withhold.errors import RunStopped
from withhold.online.folder import Stored, write_folder
from withhold.online.image import Accepted
from withhold.online.protector import Protector, Released
from withhold.online.service.batcher import RESTART
from withhold.online.service.crafting import About, Stopping
from withhold.online.service.logs import Log
from withhold.online.service.problems import Problem, problem_of
from withhold.online.service.queue_limits import QueueLimits
from withhold.online.service.running_mean import RunningMean
from withhold.online.service.server import warm_up
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

TRIES = 5
"""Replicas that an image is given to, one after the other, while they are lost."""

CHECKED_WITHIN = 5.0
"""Seconds within which a replica must answer for the service to be ready."""

RECENT = 30.0
"""Seconds for which an image that came back shows that replicas live, so that a queue is no fault."""

LOST = (
    DeploymentUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    ReplicaUnavailableError,
    WorkerCrashedError,
)
"""What says that a replica, its machine or its answer is lost, and nothing about the image."""

UNSENT = Picture(np.empty((0, 0, 3), np.uint8))
"""In place of the picture of what comes from a replica: the file has it too, and nobody needs it twice."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """An image on its way to a replica: its file, label and speed; see `Crafting.protect`."""

    content: bytes
    label: str | None
    speed: SpeedName


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of an image in a replica.

    Attributes:
        result: What was released, `picture` being `UNSENT`; or what clients are told, or what went wrong.
        batch: Images of its batch, told for the first of them only.
        seconds: That the batch took, by image.
    """

    result: Released | Problem | Exception
    batch: int | None
    seconds: float


class Replica:
    """A protector that is rebuilt from its files and protects what comes, several images together."""

    def __init__(self, stored: Stored, device: str | None, settings: ServiceSettings, *, allow: bool) -> None:
        # Readable by its owner alone, and gone when the protector is loaded: it keeps everything in memory.
        with tempfile.TemporaryDirectory(prefix="withhold-replica-") as folder:
            write_folder(Path(folder), stored.document, stored.files)
            self._protector = Protector.load(folder, device=device, allow_differences=allow)
        warm_up(self._protector)
        self._log = Log()  # Ray keeps it with the logs of the replica
        for batches in (self.full, self.quick, self.instant):
            batches.set_max_batch_size(settings.max_batch or self._protector.document.lanes)
            batches.set_batch_wait_timeout_s(settings.max_wait_ms / 1000)

    # One method for each speed, so that no image waits for the slower ones of its batch.

    @serve.batch  # type: ignore[untyped-decorator]
    async def full(self, wanted: Sequence[Wanted]) -> list[Outcome]:
        """Protect images; see `Crafting.protect`."""
        return await self.together(wanted)

    @serve.batch  # type: ignore[untyped-decorator]
    async def quick(self, wanted: Sequence[Wanted]) -> list[Outcome]:
        """Protect images; see `Crafting.protect`."""
        return await self.together(wanted)

    @serve.batch  # type: ignore[untyped-decorator]
    async def instant(self, wanted: Sequence[Wanted]) -> list[Outcome]:
        """Protect images; see `Crafting.protect`."""
        return await self.together(wanted)

    async def together(self, wanted: Sequence[Wanted]) -> list[Outcome]:
        """Protect images that came together."""
        return await asyncio.to_thread(outcomes, self._protector, wanted, self._log)

    async def fingerprint(self) -> str:
        """Name the protector, as a sign of life."""
        return self._protector.fingerprint


def outcomes(protector: Protector, wanted: Sequence[Wanted], log: Log) -> list[Outcome]:
    """Protect images that came together; each fails by itself only."""
    began = time.monotonic()
    results: dict[int, Released | Exception] = {}
    accepted: dict[SpeedName, dict[int, Accepted]] = {}
    for place, each in enumerate(wanted):
        try:
            accepted.setdefault(each.speed, {})[place] = protector.accept(each.content, each.label)
        except Exception as error:
            results[place] = error
    for speed, images in accepted.items():
        results.update(zip(images, protector.protect_each(list(images.values()), speed=speed), strict=True))
    seconds = (time.monotonic() - began) / len(wanted)
    return [
        Outcome(_portable(results[place], log), len(wanted) if place == 0 else None, seconds)
        for place in range(len(wanted))
    ]


def _portable(result: Released | Exception, log: Log) -> Released | Problem | Exception:
    """Give what survives the way to another process; an error's cause and traceback do not."""
    if isinstance(result, Released):
        return replace(result, picture=UNSENT)
    problem = problem_of(result)
    log.failure(problem, result)
    return RunStopped(str(result)) if isinstance(result, RunStopped) else problem


class Replicated:
    """Replicas as `Crafting`. Used from one event loop.

    Attributes:
        about: The protector that each of them holds.
    """

    def __init__(
        self,
        handle: DeploymentHandle,
        about: About,
        settings: ServiceSettings,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.about = about
        self._handle, self._on_batch = handle, on_batch
        self._replicas = settings.replicas
        self._limits = QueueLimits(settings)
        self._needed = RunningMean()
        self._lived = -math.inf

    async def protect(self, upload: Upload, speed: SpeedName, *, patient: bool = False) -> Released:
        """Protect an image; see `Crafting`. If its replica is lost, another one does it: the result is the same.

        Returns:
            What was released, `picture` being `UNSENT`.
        """
        seconds = self._needed.seconds / self._replicas
        async with self._limits.admit(upload.pixels, patient=patient, seconds=seconds):
            outcome = await self._outcome(Wanted(upload.content, upload.label, speed))
        self._needed.add(outcome.seconds)
        if outcome.batch is not None:
            self._on_batch(outcome.batch)
        if isinstance(outcome.result, Exception):
            raise outcome.result
        return outcome.result

    async def _outcome(self, wanted: Wanted) -> Outcome:
        for _ in range(TRIES):
            try:
                found: Outcome = await getattr(self._handle, wanted.speed).remote(wanted)
            except RayTaskError:  # raised in a replica, which lives; it can also be of the type of its cause
                raise
            except LOST:
                self._lived = -math.inf
                continue
            self._lived = time.monotonic()
            return found
        raise Stopping(RESTART)

    def waiting(self) -> int:
        """Count the images that wait or are crafted."""
        return self._limits.taken

    async def check(self) -> None:
        """Ask one of the replicas, unless an image has just come back: the question waits behind images."""
        if time.monotonic() - self._lived < RECENT:
            return
        try:
            async with asyncio.timeout(CHECKED_WITHIN):
                await self._handle.fingerprint.remote()
        except (TimeoutError, RayError, RayServeException):
            raise Stopping(RESTART) from None

    async def close(self) -> None:
        """Return: Ray Serve ends the replicas."""
