"""Around every request: its number, its log line, its metrics, and an answer when the service itself fails."""

import time
import uuid
from contextlib import ExitStack
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from withhold.online.service.forms import CLOSE
from withhold.online.service.logs import context_of
from withhold.online.service.problems import later, problem_of
from withhold.online.service.protocol import CROWDED
from withhold.online.service.service import Service

CLIENT_CLOSED = 499
"""What the log says where the client did not wait for an answer."""

CROWDED_RETRY = 5
HEALTH = "/health/"
UNKNOWN_ROUTE = "(none)"


class Observing:
    """Middleware that no exception passes.

    Args:
        service: Whose log and metrics are used.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        context_of(request=exchange.id)
        request = Request(scope)
        with ExitStack() as request.state.until_sent:
            try:
                _refuse_if_crowded(request)
                await self._app(scope, exchange.receive, exchange.send)
            except ClientDisconnect:
                exchange.status = CLIENT_CLOSED
            except Exception as error:
                problem = problem_of(error)
                self._service.log.failure(problem, error)
                self._service.metrics.rejections.labels(problem.reason).inc()
                request.state.reason = problem.reason
                if exchange.status is None:
                    await problem.response()(scope, exchange.receive, exchange.send)
            finally:
                self._note(request, exchange)

    def _note(self, request: Request, exchange: "_Exchange") -> None:
        route = getattr(request.scope.get("route"), "path", UNKNOWN_ROUTE)
        status = exchange.status or CLIENT_CLOSED
        self._service.metrics.requests.labels(route, str(int(status))).inc()
        self._service.log.event(
            "request",
            client=getattr(request.state, "client", None),
            method=request.method,
            route=route,
            status=int(status),
            reason=getattr(request.state, "reason", None),
            seconds=round(time.perf_counter() - exchange.began, 4),
            images=getattr(request.state, "images", None),
            bytes_in=exchange.received,
            bytes_out=exchange.sent,
        )


class _Exchange:
    """A request and its answer, as they pass by."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.id = uuid.uuid4().hex
        self.began = time.perf_counter()
        self.status: int | HTTPStatus | None = None
        self.received = self.sent = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"request-id", self.id.encode())]
        if body := message.get("body"):
            self.sent += len(body)
            # Whoever sends gets on when the client has taken what came before; so this is all that there is of it.
            await self._send({**message, "more_body": True})
            message["body"] = b""
        await self._send(message)


def _refuse_if_crowded(request: Request) -> None:
    """Refuse what comes on a connection beyond the limit, unless somebody asks whether the service lives.

    Raises:
        Problem: There are too many connections.
    """
    if getattr(request.state, CROWDED, False) and not request.url.path.startswith(HEALTH):
        detail = "There are as many connections as may."
        raise later(HTTPStatus.SERVICE_UNAVAILABLE, CROWDED, detail, CROWDED_RETRY, CLOSE)
