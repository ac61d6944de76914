"""Calls that block, in threads of their own: what one pool waits for keeps no other one waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Threads:
    """A pool of threads. Used from one event loop."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, name)

    async def call(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        """Call a function in a thread; the call goes on if whoever waits for it is cancelled."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._pool, lambda: function(*args, **options)))

    async def close(self) -> None:
        """Begin no further call, and wait for those that were begun."""
        await asyncio.to_thread(self._pool.shutdown)
