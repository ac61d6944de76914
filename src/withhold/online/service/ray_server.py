"""The service on Ray Serve: HTTP in one place, crafting in replicas on any machines of a cluster.

The application is the one of `app.py`.
"""

import signal
import threading
from contextlib import ExitStack, suppress

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from withhold.cluster import check_machines, check_room, versions
from withhold.data.pixels import levels
from withhold.errors import RunStopped
from withhold.online.folder import Stored, read_folder
from withhold.online.service.app import create_app
from withhold.online.service.cluster import check_head, logged_cluster
from withhold.online.service.crafting import About
from withhold.online.service.logs import Log
from withhold.online.service.metrics import Metrics
from withhold.online.service.replicas import Replica, Replicated
from withhold.online.service.server import LAST_SECONDS, Places, bound, opened, say_who_may_come
from withhold.online.service.service import Service
from withhold.online.service.settings import ServiceSettings
from withhold.online.settings import SPEEDS

NAME = "withhold"
MANY = 1000
"""Requests that Ray Serve lets through at a time; the application has limits of its own."""


class Ingress:
    """The application on the machine that the command was given on: ledger, spool and HTTP."""

    def __init__(self, handle: DeploymentHandle, about: About, places: Places, settings: ServiceSettings) -> None:
        self._handle, self._about, self._places, self._settings = handle, about, places, settings
        self._open = ExitStack()
        self._service: Service | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Open what the application needs, and make it."""
        spool, ledger = self._open.enter_context(opened(self._places))
        metrics = Metrics()
        crafting = Replicated(self._handle, self._about, self._settings, metrics.batches.observe)
        app = create_app(crafting, ledger, self._settings, spool, metrics=metrics, log=Log())
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
        RunStopped: The replicas do not start, or do not end.
    """
    log = Log()
    places = places.absolute()
    stored = read_folder(places.protector)
    with opened(places) as (_, ledger):  # also to refuse what cannot be used before a cluster is started
        say_who_may_come(ledger, places, log)
    with bound(settings.host, settings.port) as listener:
        port = int(listener.getsockname()[1])
    with logged_cluster(settings, log):
        check_head()
        gpus = gpus_of(places.device or stored.document.device)
        check_room(ray.cluster_resources(), gpus, least=settings.replicas, kind="replica")
        if settings.address is not None:
            check_machines(ray, versions)
        log.event("starting", text="Starting the replicas, which takes a while.")
        serve.start(http_options={"host": settings.host, "port": port, "location": "HeadOnly"})
        try:
            front = start(_application(stored, places, settings))
            log.event("listening", host=settings.host, port=port, replicas=settings.replicas)
            _wait_for_a_signal()
            log.event("stopping")
            _drain(front, settings.shutdown_timeout + LAST_SECONDS)
        finally:
            end()


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


def end() -> None:
    """End the application, and nothing else of a cluster that others may use; a cluster of our own ends with Ray.

    Raises:
        RunStopped: It does not end.
    """
    try:
        with suppress(RayError, RayServeException):  # Ray Serve itself is gone, and the application with it
            serve.delete(NAME)
    except TimeoutError as error:
        msg = "Ray has not ended the service in time; `serve status` shows whether it is still there"
        raise RunStopped(msg) from error


def _drain(front: DeploymentHandle, seconds: float) -> None:
    with suppress(TimeoutError, RayError, RayServeException):  # it is ended in any case
        front.drain.remote().result(timeout_s=seconds)


def gpus_of(device: str) -> float:
    """Count the GPUs of a replica."""
    return 1.0 if device.startswith("cuda") else 0.0


def _application(stored: Stored, places: Places, settings: ServiceSettings) -> serve.Application:
    document = stored.document
    device = places.device or document.device
    most = max(document.lanes, settings.max_batch or 0)
    crafting = serve.deployment(Replica, name="crafting").options(
        num_replicas=settings.replicas,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus_of(device)},
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


def _wait_for_a_signal() -> None:
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()
