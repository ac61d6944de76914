"""HTTP/1.1 for clients that do not say what they want: uvicorn itself would wait for them for ever."""

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedProtocol(H11Protocol):
    """Closes a connection on which no request begins in time.

    That is so for a connection on which nothing comes, for headers that do not end, and for what a client goes on to
    send of a request that was answered already. The body of a request has a limit of its own.

    Attributes:
        patience: In seconds.
    """

    patience: ClassVar[float]
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless a request has begun."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._forget()

    @property
    def _waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if not self._waiting:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.patience, self._close)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if self._waiting and not self.transport.is_closing():
            self.conn.send(h11.ConnectionClosed())
            self.transport.close()


def timed(patience: float) -> type[asyncio.Protocol]:
    """Make the protocol for a service that waits so many seconds."""
    return type("Timed", (TimedProtocol,), {"patience": patience})
