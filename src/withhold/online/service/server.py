"""`withhold serve`: from a protector's folder to a process that listens, and ends without losing what it accepted."""

import asyncio
import logging
import math
import socket
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image

from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.online.folder import read_folder
from withhold.online.ledger import Ledger, default_url
from withhold.online.protector import Protector
from withhold.online.service.app import create_app
from withhold.online.service.local import LocalCrafting
from withhold.online.service.logs import Log, Notes, ToLog
from withhold.online.service.metrics import Metrics
from withhold.online.service.protocol import LONGEST_HEAD, bounded
from withhold.online.service.service import Service
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.spool import Spool

SPOOL = "spool"
"""Folder in the protector's for the images of jobs."""

BACKLOG = 1024
LAST_SECONDS = 10
"""For answers that are on their way when everything else has ended."""


@dataclass(frozen=True, slots=True)
class Places:
    """What a service works with.

    Attributes:
        protector: Its folder.
        ledger: URL; the file in the protector's folder if absent.
        spool: For the images of jobs; a folder in the protector's if absent.
        device: To compute on; what the protector was prepared on if absent.
        allow_differences: Go on where images come out otherwise than on the machine that prepared the protector.
    """

    protector: Path
    ledger: str | None = None
    spool: Path | None = None
    device: str | None = None
    allow_differences: bool = False

    def absolute(self) -> "Places":
        """Give the same for a process in another folder."""
        spool = None if self.spool is None else self.spool.absolute()
        return replace(self, protector=self.protector.absolute(), spool=spool)


def serve(places: Places, settings: ServiceSettings) -> None:
    """Serve until a signal ends it.

    Raises:
        InvalidInput: A place, the address or the port cannot be used.
        LedgerUnavailable: The ledger is away.
    """
    log = Log()
    # Pillow would print it; so it is an error, which is answered.
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    logger, handler = logging.getLogger("uvicorn"), ToLog(log, "server")
    logger.addHandler(handler)
    try:
        with bound(settings.host, settings.port) as listener, application(places, settings, log) as app:
            Server(app, settings, log).run([listener])
    finally:
        logger.removeHandler(handler)


@contextmanager
def application(places: Places, settings: ServiceSettings, log: Log) -> Iterator[FastAPI]:
    """Open everything that an application needs, and close it at the end.

    Raises:
        InvalidInput: A place cannot be used.
        LedgerUnavailable: The ledger is away.
    """
    with opened(places) as (spool, ledger):
        protector = Protector.load(
            places.protector, device=places.device, allow_differences=places.allow_differences, reporter=Notes(log)
        )
        warm_up(protector)
        say_who_may_come(ledger, places, log)
        metrics = Metrics()
        crafting = LocalCrafting(protector, settings, metrics.batches.observe)
        yield create_app(crafting, ledger, settings, spool, metrics=metrics, log=log)


@contextmanager
def opened(places: Places) -> Iterator[tuple[Spool, Ledger]]:
    """Open spool and ledger, and close them at the end.

    Raises:
        InvalidInput: A place cannot be used, or another service uses it.
        LedgerUnavailable: The ledger is away.
    """
    folder = places.protector
    with (
        closing(Spool.open(places.spool or folder / SPOOL, read_folder(folder).key)) as spool,
        closing(Ledger.open(places.ledger or default_url(folder))) as ledger,
    ):
        yield spool, ledger


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Bind an address before anything heavy begins; nothing connects to it yet.

    Raises:
        InvalidInput: It cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        msg = f"{host!r} is no address of this machine ({error}); give one with --host, such as 127.0.0.1"
        raise InvalidInput(msg) from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            msg = f"cannot listen on port {port} of {host}: {error.strerror}; give others with --host and --port"
            raise InvalidInput(msg) from None
        yield listener


class Server(uvicorn.Server):
    """Drains at the first signal, and only then ends; at the second it ends at once."""

    def __init__(self, app: FastAPI, settings: ServiceSettings, log: Log) -> None:
        # The pure Python parts of uvicorn, so that the service behaves alike whatever else is installed.
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=bounded(settings),
                h11_max_incomplete_event_size=LONGEST_HEAD,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout) + LAST_SECONDS,
            )
        )
        self._service: Service = app.state.service
        self._seconds, self._log = settings.shutdown_timeout, log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._signalled = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            self._log.event("listening", host=host, port=port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._loop is None or self._signalled:
            self.force_exit = self._signalled
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._drain)
        self._signalled = True

    def _drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._end())

    async def _end(self) -> None:
        self._log.event("stopping")
        try:
            await self._service.drain(self._seconds)
        finally:
            self.should_exit = True


def warm_up(protector: Protector) -> None:
    """Craft once, so that the first client need not wait for what PyTorch loads when it first computes."""
    side = protector.document.input_size
    grey = Picture(np.full((side, side, 3), 128, np.uint8))
    protector.craft([grey], protector.recognise([grey]), "quick", steps=1)


def say_who_may_come(ledger: Ledger, places: Places, log: Log) -> None:
    """Note that there is no client yet, where that is so."""
    if any(client.revoked is None for client in ledger.clients()):
        return
    where = "--ledger URL" if places.ledger else f"--protector {places.protector}"  # a URL may hold a password
    command = f"withhold online client add NAME {where}"
    log.event("note", text=f"There is no client yet, so every request is refused; make one with `{command}`.")
