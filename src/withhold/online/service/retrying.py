"""Work that was accepted and cannot be done at present: it is tried again until it can."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from withhold.errors import RunStopped
from withhold.online.ledger import LedgerUnavailable, QuotaExceeded
from withhold.online.service.crafting import Unavailable
from withhold.online.service.logs import Log

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts while the ledger is away or the disk is full."""

Result = TypeVar("Result")


async def until_possible(work: Callable[[], Awaitable[Result]], log: Log) -> Result:
    """Try again while the ledger is away, the disk full or a quota used up: what was accepted is not lost."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await work()
        except (LedgerUnavailable, QuotaExceeded, RunStopped, Unavailable) as error:
            log.event("job-waits", error=type(error).__name__, seconds=pause)
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)
