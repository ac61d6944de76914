"""What clients may do on a connection: against a real server, and with a transport and a clock of the test's own."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.online.service.fakes import SPOOL_SECRET, FakeCrafting, png
from uvicorn import Config
from uvicorn.server import ServerState

from withhold.online.ledger import Ledger
from withhold.online.protector import Released
from withhold.online.service.app import create_app
from withhold.online.service.logs import Log, ToLog
from withhold.online.service.protocol import BoundedProtocol, bounded
from withhold.online.service.server import Server, bound
from withhold.online.service.settings import MIB, ServiceSettings
from withhold.online.service.spool import Spool
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

pytestmark = pytest.mark.anyio
LARGE = 32 * MIB
"""More than the system takes for a client that does not read."""


class LargeCrafting(FakeCrafting):
    """Its released files are larger than the system's buffers."""

    async def protect(self, upload: Upload, speed: SpeedName, *, patient: bool = False) -> Released:
        released = await super().protect(upload, speed, patient=patient)
        return replace(released, content=bytes(LARGE))


@dataclass
class Listening:
    """A service that listens, in this process."""

    server: Server
    port: int
    token: str
    log_text: StringIO

    def http(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60)

    async def sent(self, request: bytes) -> socket.socket:
        """Connect and send, and read nothing."""
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", self.port))
        await loop.sock_sendall(client, request)
        return client

    def raw(self, method: str, path: str, content: bytes = b"", content_type: str = "text/plain") -> bytes:
        lines = (
            f"{method} {path} HTTP/1.1",
            "Host: service",
            f"Authorization: Bearer {self.token}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(content)}",
        )
        return "\r\n".join((*lines, "", "")).encode() + content

    def post(self, content: bytes) -> bytes:
        request = httpx.Request("POST", "http://service/v1/protect", files={"image": content})
        return self.raw("POST", "/v1/protect", request.read(), request.headers["content-type"])

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log_text.getvalue().splitlines()]
        return [line for line in found if line["event"] == event]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def begun(client: socket.socket) -> None:
    """Wait for the first byte of an answer."""
    async with asyncio.timeout(60):
        assert await asyncio.get_running_loop().sock_recv(client, 1) == b"H"


async def everything(client: socket.socket) -> bytes:
    """Read until the service closes."""
    received = b""
    async with asyncio.timeout(60):
        while piece := await asyncio.get_running_loop().sock_recv(client, 65_536):
            received += piece
    return received


def problem(answer: bytes) -> tuple[bytes, dict[str, Any]]:
    """Take an answer apart: its head, and the document that it is to be."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    return head, json.loads(body)


@asynccontextmanager
async def listening(folder: Path, crafting: FakeCrafting, **chosen: Any) -> AsyncIterator[Listening]:  # noqa: ANN401
    settings, log_text = ServiceSettings.model_validate(chosen), StringIO()
    spool = Spool.open(folder / "spool", SPOOL_SECRET)
    ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}")
    log = Log(log_text)
    handler, logger = ToLog(log, "server"), logging.getLogger("uvicorn")
    logger.addHandler(handler)
    server = Server(create_app(crafting, ledger, settings, spool, log=log), settings, log)
    try:
        with bound("127.0.0.1", 0) as listener:
            running = asyncio.create_task(server.serve([listener]))
            await until(lambda: server.started)
            yield Listening(server, listener.getsockname()[1], ledger.add_client("me"), log_text)
            server.should_exit = True
            await running
    finally:
        logger.removeHandler(handler)
        ledger.close()
        spool.close()


CUT_OFF = "did not take its answer and was cut off"


async def test_an_answer_counts_until_it_is_taken_and_who_does_not_take_it_is_cut_off(tmp_path: Path) -> None:
    answer = 4 * 16 * 16
    async with listening(tmp_path, LargeCrafting(), send_timeout=1.0, max_answer_bytes=answer) as service:
        with await service.sent(service.post(png())) as client:
            await begun(client)
            async with service.http() as http:
                refused = await http.post("/v1/protect", files={"image": png()})
                assert (refused.status_code, refused.json()["type"]) == (429, "urn:withhold:busy")
                assert refused.headers["retry-after"] == "2"
                await until(lambda: [line for line in service.lines("server") if CUT_OFF in line["message"]])
                taken = await http.post("/v1/protect", files={"image": png()})
                assert taken.content == bytes(LARGE)
                again = await http.post("/v1/protect", files={"image": png()})  # what was taken counts no more
                assert again.status_code == 200


async def test_a_job_that_is_fetched_and_not_taken_is_cut_off_too(tmp_path: Path) -> None:
    async with (
        listening(tmp_path, LargeCrafting(), send_timeout=1.0, max_answer_bytes=LARGE) as service,
        service.http() as http,
    ):
        job = (await http.post("/v1/jobs", files={"images": png()})).headers["location"]
        async with asyncio.timeout(60):
            while (await http.get(job)).json()["state"] != "done":
                await asyncio.sleep(0.01)
        with await service.sent(service.raw("GET", f"{job}/released")) as client:
            await begun(client)
            refused = await http.get(f"{job}/released")
            assert (refused.status_code, refused.json()["type"]) == (429, "urn:withhold:busy")
            await until(lambda: [line for line in service.lines("server") if CUT_OFF in line["message"]])
        for _ in range(2):
            assert len((await http.get(f"{job}/released")).content) > LARGE


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with listening(tmp_path, FakeCrafting(), max_connections=2) as service:
        connections = service.server.server_state.connections
        idle = [await service.sent(b"") for _ in range(2)]
        await until(lambda: len(connections) == 2)
        third = await service.sent(service.raw("GET", "/v1/usage"))
        head, document = problem(await everything(third))
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in head.lower()
        assert document["type"] == "urn:withhold:crowded"
        third.close()
        assert service.lines("request")[-1]["reason"] == "crowded"
        await until(lambda: len(connections) == 2)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http:
            assert (await http.get("/health/live")).status_code == 200  # else a crowd would have the service restarted
            idle.append(await service.sent(b""))
            await until(lambda: len(connections) == 4)
            with await service.sent(b"") as fifth:
                assert await everything(fifth) == b""
        for client in idle:
            client.close()
        await until(lambda: not connections)
        async with service.http() as http:
            assert (await http.get("/v1/usage")).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: service\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n", 431, "long-headers"),
        (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: service\r\n\r\n", 431, "long-headers"),
        (b"hello\r\n\r\n", 400, "no-http"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "no-http"),
    ],
    ids=["header", "address", "text", "no host"],
)
async def test_what_is_no_request_is_answered_as_everything_else(
    tmp_path: Path, sent: bytes, status: int, reason: str
) -> None:
    async with listening(tmp_path, FakeCrafting()) as service:
        with await service.sent(sent) as client:
            head, document = problem(await everything(client))
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"connection: close" in head.lower()
        assert (document["status"], document["type"]) == (status, f"urn:withhold:{reason}")
        assert [line["message"] for line in service.lines("server")] == ["Invalid HTTP request received."]
        await until(lambda: not service.server.server_state.connections)


class Transport(asyncio.Transport):
    """Holds what the test says that it holds.

    Attributes:
        unsent: Bytes that the client has not taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unsent, self.closing, self.aborted = 0, False, False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True


class Clock:
    """An event loop in which time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:  # noqa: ANN401
        entry = (self.now + seconds, callback)
        self._due.append(entry)
        return type("Handle", (), {"cancel": lambda _: self._due.remove(entry)})()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for entry in [each for each in self._due if each[0] <= self.now]:
            self._due.remove(entry)
            entry[1]()


@dataclass
class Connection:
    protocol: BoundedProtocol
    transport: Transport
    clock: Clock

    def write(self, size: int) -> None:
        self.transport.unsent += size
        self.protocol.pause_writing()

    def take(self, size: int) -> None:
        self.transport.unsent -= size
        if not self.transport.unsent:
            self.protocol.resume_writing()


@pytest.fixture
def connection() -> Connection:
    transport, clock = Transport(), Clock()
    kind: Any = bounded(ServiceSettings(send_timeout=10.0, receive_timeout=1e6))
    protocol = kind(Config(app=lambda: None, log_config=None, http=kind), ServerState(), {}, clock)
    protocol.connection_made(transport)
    return Connection(protocol, transport, clock)


async def test_a_slow_client_is_borne_while_it_takes_a_mebibyte_in_time(connection: Connection) -> None:
    connection.write(50 * MIB)
    for _ in range(40):
        connection.clock.wait(10)
        connection.take(MIB)
    assert not connection.transport.aborted
    connection.clock.wait(10)
    connection.take(MIB - 1)
    connection.clock.wait(10)
    assert connection.transport.aborted


async def test_the_rest_of_an_answer_has_as_long_as_a_mebibyte(connection: Connection) -> None:
    connection.write(100_000)
    connection.clock.wait(10)
    connection.take(99_999)
    connection.clock.wait(10)
    assert connection.transport.aborted


async def test_the_next_piece_has_its_own_time(connection: Connection) -> None:
    connection.write(3 * MIB)
    connection.clock.wait(10)
    connection.take(3 * MIB)
    connection.write(4 * MIB)
    connection.clock.wait(10)
    assert not connection.transport.aborted
    connection.take(4 * MIB)
    for _ in range(3):
        connection.clock.wait(10)  # between answers there is nothing to take
    assert not connection.transport.aborted


async def test_what_is_closed_but_not_taken_is_not_kept_for_ever(connection: Connection) -> None:
    connection.transport.unsent = 1000  # too little for the transport to pause
    for _ in range(3):
        connection.clock.wait(10)
    assert not connection.transport.aborted
    connection.transport.close()
    for _ in range(2):
        connection.clock.wait(10)
    assert connection.transport.aborted
