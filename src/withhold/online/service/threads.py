"""Calls that block, in threads of their own: what one pool waits for keeps no other one waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Threads:
    """A pool of threads. Used from one event loop.

    Attributes:
        unfinished: Calls that wait for a thread or have one.
    """

    def __init__(self, count: int, name: str) -> None:
        self.unfinished = 0
        self._pool = ThreadPoolExecutor(count, name)

    async def call(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        """Call a function in a thread; the call goes on if whoever waits for it is cancelled."""
        loop = asyncio.get_running_loop()
        result = loop.run_in_executor(self._pool, lambda: function(*args, **options))
        self.unfinished += 1
        result.add_done_callback(self._count)
        return await asyncio.shield(result)

    def _count(self, _: object) -> None:
        self.unfinished -= 1

    async def close(self) -> None:
        """Begin no further call, and wait for those that were begun."""
        await asyncio.to_thread(self._pool.shutdown)
