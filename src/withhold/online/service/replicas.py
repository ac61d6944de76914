"""The service on Ray Serve: HTTP in one place, crafting in replicas on any machines of a cluster.

The application is the one of `app.py`; replicas stand behind the same seam as the crafting of a single process. Ray is
imported here only.
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI

from withhold.data.pixels import Picture, levels
from withhold.errors import InvalidInput, RunStopped
from withhold.online.folder import Stored, read_folder, write_folder
from withhold.online.image import Accepted
from withhold.online.ledger import Ledger, default_url
from withhold.online.protector import Protector, Released
from withhold.online.service.app import create_app
from withhold.online.service.batcher import FIRST_GUESS, OLD_SHARE, RESTART
from withhold.online.service.crafting import About, Stopping
from withhold.online.service.logs import Log
from withhold.online.service.metrics import Metrics
from withhold.online.service.problems import Problem, problem_of
from withhold.online.service.rooms import Rooms
from withhold.online.service.server import SPOOL, Places, bound, say_who_may_come, warm_up
from withhold.online.service.service import Service
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.spool import Spool
from withhold.online.service.uploads import pixels_of
from withhold.online.settings import SPEEDS, SpeedName

# Under `uv run` Ray would start each worker through uv again; and it would send usage reports.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import serve
from ray._private import ray_constants
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

NAME = "withhold"
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

LOOPBACK = "127.0.0.1"
HEAD = "node:__internal_head__"
"""Resource that Ray gives to the head of a cluster, and to no other node."""

UNSENT = Picture(np.empty((0, 0, 3), np.uint8))
"""In place of the picture of what comes from a replica: the file has it too, and nobody needs it twice."""

LAST_SECONDS = 10
"""For answers that are on their way when everything else has ended."""

MANY = 1000
"""Requests that Ray Serve lets through at a time; the application has bounds of its own."""

QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
"""Ray keeps the logs of its processes in a folder of its own; stderr is for documents of ours."""


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
        results.update(zip(images, _protected(protector, list(images.values()), speed), strict=True))
    seconds = (time.monotonic() - began) / len(wanted)
    return [
        Outcome(_portable(results[place], log), len(wanted) if place == 0 else None, seconds)
        for place in range(len(wanted))
    ]


def _protected(protector: Protector, images: Sequence[Accepted], speed: SpeedName) -> list[Released | Exception]:
    try:
        return list(protector.protect_accepted(images, speed=speed))
    except Exception as error:
        if len(images) == 1:
            return [error]
        return [each for image in images for each in _protected(protector, [image], speed)]


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
        self._most_pixels, self._replicas = settings.max_pixels, settings.replicas
        self._rooms = Rooms(settings)
        self._seconds = FIRST_GUESS
        self._lived = -math.inf

    async def protect(self, content: bytes, label: str | None, speed: SpeedName, *, patient: bool = False) -> Released:
        """Protect an image; see `Crafting`. If its replica is lost, another one does it: the result is the same.

        Returns:
            What was released, `picture` being `UNSENT`.
        """
        pixels = pixels_of(content, self._most_pixels)
        async with self._rooms.hold(pixels, patient=patient, seconds=self._seconds / self._replicas):
            outcome = await self._outcome(Wanted(content, label, speed))
        self._seconds = OLD_SHARE * self._seconds + (1 - OLD_SHARE) * outcome.seconds
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
        return self._rooms.taken

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


class Ingress:
    """The application on the machine that the command was given on: ledger, spool and HTTP."""

    def __init__(self, handle: DeploymentHandle, about: About, places: Places, settings: ServiceSettings) -> None:
        self._handle, self._about, self._places, self._settings = handle, about, places, settings
        self._open = contextlib.ExitStack()
        self._service: Service | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Open what the application needs, and make it."""
        places, metrics, log = self._places, Metrics(), Log()
        spool = Spool.open(places.spool or places.protector / SPOOL, read_folder(places.protector).key)
        self._open.callback(spool.close)
        ledger = Ledger.open(places.ledger or default_url(places.protector))
        self._open.callback(ledger.close)
        crafting = Replicated(self._handle, self._about, self._settings, metrics.batches.observe)
        app = create_app(crafting, ledger, self._settings, spool, metrics=metrics, log=log)
        self._service = app.state.service
        return app

    async def drain(self) -> None:
        """Accept nothing more, finish what was accepted, and after some time hand back the rest."""
        if self._service is not None:
            await self._service.drain(self._settings.shutdown_timeout)

    def __del__(self) -> None:
        """Close them."""
        self._open.close()


def serve_replicas(places: Places, settings: ServiceSettings) -> None:
    """Serve from a cluster until a signal ends it.

    Raises:
        InvalidInput: A place, the address, the port or the cluster cannot be used.
        LedgerUnavailable: The ledger is away.
        RunStopped: The replicas do not start.
    """
    log = Log()
    places = places.absolute()
    stored = read_folder(places.protector)
    ledger = Ledger.open(places.ledger or default_url(places.protector))
    try:
        say_who_may_come(ledger, places, log)
    finally:
        ledger.close()
    with bound(settings.host, settings.port) as listener:
        port = int(listener.getsockname()[1])
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with _cluster(settings):
        check_head()
        check_room(settings, places.device or stored.document.device)
        serve.start(http_options={"host": settings.host, "port": port, "location": "HeadOnly"})
        try:
            front = start(_application(stored, places, settings))
            log.event("listening", host=settings.host, port=port, replicas=settings.replicas)
            _wait_for_a_signal()
            log.event("stopping")
            _drain(front, settings.shutdown_timeout + LAST_SECONDS)
        finally:
            end(settings)


def start(application: serve.Application) -> DeploymentHandle:
    """Start an application, and return when it can be used.

    Raises:
        RunStopped: It does not start.
    """
    try:
        return serve.run(application, name=NAME, route_prefix="/", blocking=False)
    except (RuntimeError, RayError, RayServeException) as error:
        msg = (
            "Ray could not start the service; the logs of Ray Serve say why, by default those in "
            "/tmp/ray/session_latest/logs/serve. A replica refuses to start where it would compute otherwise than the "
            "machine that prepared the protector"
        )
        raise RunStopped(msg) from error


def end(settings: ServiceSettings) -> None:
    """End the application; of a cluster that others may use, nothing else."""
    if settings.address is None:
        serve.shutdown()
    else:
        serve.delete(NAME)


def _drain(front: DeploymentHandle, seconds: float) -> None:
    with contextlib.suppress(TimeoutError, RayError, RayServeException):  # it is ended in any case
        front.drain.remote().result(timeout_s=seconds)


def _application(stored: Stored, places: Places, settings: ServiceSettings) -> serve.Application:
    document = stored.document
    device = places.device or document.device
    gpus = {"num_gpus": 1} if device.startswith("cuda") else {}
    most = max(document.lanes, settings.max_batch or 0)
    crafting = serve.deployment(Replica, name="crafting").options(
        num_replicas=settings.replicas,
        ray_actor_options={"num_cpus": 1, **gpus},
        max_ongoing_requests=(1 + len(SPEEDS)) * most,  # so that the next batch of any speed is there when one is done
        graceful_shutdown_timeout_s=settings.shutdown_timeout,
    )
    here = ray.util.get_node_ip_address()
    front = serve.deployment(serve.ingress()(Ingress), name="http").options(
        num_replicas=1,
        ray_actor_options={"num_cpus": 0, "resources": {f"node:{here}": 0.001}},
        max_ongoing_requests=MANY,
        graceful_shutdown_timeout_s=settings.shutdown_timeout + LAST_SECONDS,
    )
    replicas = crafting.bind(stored, places.device, settings, allow=places.allow_differences)
    about = About.of(document, levels(document.settings.eps))
    application: serve.Application = front.bind(replicas, about, places, settings)
    return application


@contextlib.contextmanager
def _cluster(settings: ServiceSettings) -> Iterator[None]:
    """Join a cluster, or start one on this machine.

    Raises:
        InvalidInput: There is none at the address.
    """
    try:
        if settings.address is None:
            _stay_on_this_machine()
            cpus = max(settings.replicas, os.cpu_count() or 1)
            ray.init(include_dashboard=False, num_cpus=cpus, _node_ip_address=LOOPBACK, **QUIET)
        else:
            check_reachable(settings.address)
            ray.init(settings.address, **QUIET)
    except (ConnectionError, RayError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        msg = (
            f"no Ray cluster at {settings.address or 'this machine'}: {reason.rstrip('.')}; start one with `ray start`"
        )
        raise InvalidInput(msg) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_reachable(address: str) -> None:
    """Try an address, for which Ray itself would wait for minutes; `auto` is left to Ray.

    Raises:
        InvalidInput: It is no HOST:PORT, or nothing listens there.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()) or "/" in host:
        msg = f"{address!r} is no address of a Ray cluster; give HOST:PORT of its head, such as 10.0.0.1:6379, or auto"
        raise InvalidInput(msg)
    try:
        socket.create_connection((host.strip("[]"), int(port)), CHECKED_WITHIN).close()
    except (OSError, OverflowError) as error:
        msg = f"no Ray cluster at {address}: {error}; is its head running, and is the port reachable from here?"
        raise InvalidInput(msg) from error


def _stay_on_this_machine() -> None:
    """Have a cluster that is started from now on listen on the loopback address only.

    Ray would put another address of the machine in place of 127.0.0.1, except where clusters of several machines are
    switched off. It reads the variable when it is imported, here earlier than the address is known; its processes read
    it when they start.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def check_head() -> None:
    """Refuse another machine than the head of the cluster: HTTP is there.

    Raises:
        InvalidInput: It is another one.
    """
    own = ray.get_runtime_context().get_node_id()
    if not any(node["NodeID"] == own and HEAD in node["Resources"] for node in ray.nodes()):
        msg = "the service listens on the head of the cluster, and this is another machine; start it on the head"
        raise InvalidInput(msg)


def check_room(settings: ServiceSettings, device: str) -> None:
    """Refuse more replicas than the cluster can ever hold.

    Args:
        device: That they compute on.

    Raises:
        InvalidInput: It has too few processors, or too few GPUs.
    """
    has = ray.cluster_resources()
    needed = "GPU" if device.startswith("cuda") else "CPU"
    if has.get(needed, 0) < settings.replicas:
        msg = (
            f"{settings.replicas} replicas need a {needed} each, and the cluster has {has.get(needed, 0):g}; "
            "lower --replicas, or add machines"
        )
        raise InvalidInput(msg)


def _wait_for_a_signal() -> None:
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()
