"""Work that is done at the same time, and ends early when nobody waits for it any more."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Never, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

Result = TypeVar("Result")


async def unless(work: Coroutine[Any, Any, Result], *interruptions: Coroutine[Any, Any, Never]) -> Result:
    """Await work; if an interruption raises first, the work is cancelled and that is raised instead."""
    task = asyncio.create_task(work)
    watching = [asyncio.create_task(interruption) for interruption in interruptions]
    try:
        await asyncio.wait([task, *watching], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return next(watch for watch in watching if watch.done()).result()
    finally:
        for other in (task, *watching):
            other.cancel()
        # What was cancelled must have ended before its resources are used again.
        await asyncio.gather(task, *watching, return_exceptions=True)


async def disconnected(request: Request) -> Never:
    """Wait until the client has gone; for requests whose body was read.

    Raises:
        ClientDisconnect: It has.
    """
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


async def together(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Do work at the same time; the first error ends it all, and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
