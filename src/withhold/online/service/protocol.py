"""HTTP/1.1 for clients that do not say what they want, or do not take what they asked for: uvicorn waits for ever."""

import asyncio
import sys
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from withhold.online.service.problems import Problem
from withhold.online.service.settings import MIB, ServiceSettings

CROWDED = "crowded"
"""In the state of a request that came on a connection beyond the limit."""

MOST_CROWDED = 2
"""Times the limit of connections, beyond which a connection is closed at once."""

LONGEST_HEAD = 16 * 1024
"""Bytes of the first line and the headers of a request."""


class BoundedProtocol(H11Protocol):
    """Closes a connection on which no request begins in time, or whose client does not take its answer.

    No request begins on a connection on which nothing comes, in headers that do not end, and in what a client goes on
    to send of a request that was answered already. The body of a request has a limit of its own.
    """

    settings: ClassVar[ServiceSettings]
    _beginning: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    _unsent: int | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CROWDED * self.settings.max_connections:
            transport.abort()
            return
        if len(self.connections) > self.settings.max_connections:
            self.app_state = {**self.app_state, CROWDED: True}
        self._watch_beginning()
        self._watch_sending()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless a request has begun."""
        if not self._refused:
            super().data_received(data)
        self._watch_beginning()

    def resume_writing(self) -> None:
        """Note that the client has taken nearly all of what was written."""
        super().resume_writing()
        self._unsent = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        for timer in (self._beginning, self._sending):
            if timer is not None:
                timer.cancel()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own sentence
        """Answer what is no request as everything else is answered.

        Then wait until the client has read that: closed at once, the system would throw the answer away for what still
        comes.
        """
        if not self._waiting or self.conn.our_state is not h11.IDLE:  # an answer is on its way
            self.transport.close()
            return
        self._refused = True
        problem = _refusal(sys.exception())
        answer = problem.response()
        for event in (
            h11.Response(
                status_code=answer.status_code,
                headers=[*answer.raw_headers, (b"connection", b"close")],
                reason=problem.status.phrase.encode(),
            ),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.write_eof()

    @property
    def _waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch_beginning(self) -> None:
        if not self._waiting:
            if self._beginning is not None:
                self._beginning.cancel()
                self._beginning = None
        elif self._beginning is None:
            self._beginning = self.loop.call_later(self.settings.receive_timeout, self._end_beginning)

    def _end_beginning(self) -> None:
        self._beginning = None
        if self._waiting and not self.transport.is_closing():
            self.conn.send(h11.ConnectionClosed())
            self.transport.close()

    def _watch_sending(self) -> None:
        """Look again and again at what is not sent yet; while it is too much, or the end, nothing is added to it."""
        unsent = self.transport.get_write_buffer_size()
        if not (self.flow.write_paused or self.transport.is_closing()):
            self._unsent = None
        elif self._unsent is None or self._unsent - unsent >= MIB:
            self._unsent = unsent
        elif unsent:
            self.logger.warning("A client did not take its answer and was cut off; %d bytes were not sent.", unsent)
            self.transport.abort()
            return
        self._sending = self.loop.call_later(self.settings.send_timeout, self._watch_sending)


def bounded(settings: ServiceSettings) -> type[asyncio.Protocol]:
    """Make the protocol for a service with limits of time and number."""
    return type("Bounded", (BoundedProtocol,), {"settings": settings})


def _refusal(error: Any) -> Problem:  # noqa: ANN401
    if getattr(error, "error_status_hint", None) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        detail = f"The first line and the headers of a request have at most {LONGEST_HEAD} bytes. Send less in them."
        return Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "long-headers", detail)
    return Problem(HTTPStatus.BAD_REQUEST, "no-http", "This is no request of HTTP/1.1.")
