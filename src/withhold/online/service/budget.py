"""A bound on things that are in work at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Budget:
    """Bounds how many things are in work at a time, and how large they are together; one thing always fits.

    Used from one event loop.

    Attributes:
        taken: Things in work.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self.taken = 0
        self._sizes = 0
        self._turns: deque[tuple[asyncio.Future[None], int]] = deque()

    def fits(self, size: int) -> bool:
        """Say whether there is room for a thing."""
        return self.taken == 0 or (self.taken < self._count and self._sizes + size <= self._size)

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Hold room for a thing now; whether there is some, `fits` says."""
        self._hold(size)
        try:
            yield
        finally:
            self._free(size)

    @asynccontextmanager
    async def await_room(self, size: int) -> AsyncIterator[None]:
        """Hold room for a thing as soon as there is some; whoever came first is served first."""
        turn = asyncio.get_running_loop().create_future()
        self._turns.append((turn, size))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._serve()  # those behind this one
            else:
                self._free(size)
            raise
        try:
            yield
        finally:
            self._free(size)

    def _serve(self) -> None:
        while self._turns:
            turn, size = self._turns[0]
            if turn.cancelled():  # whoever waited has yet to notice
                self._turns.popleft()
                continue
            if not self.fits(size):
                return
            self._turns.popleft()
            self._hold(size)
            turn.set_result(None)

    def _hold(self, size: int) -> None:
        self.taken += 1
        self._sizes += size

    def _free(self, size: int) -> None:
        self.taken -= 1
        self._sizes -= size
        self._serve()
