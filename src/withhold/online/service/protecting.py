"""What every way to protect an image has in common: reserve, craft, record, and only then hand over."""

import asyncio
import contextlib
from collections.abc import Sequence

from withhold.online.ledger import Client, LedgerUnavailable, Reservation
from withhold.online.protector import Released
from withhold.online.service.accounting import Accounting
from withhold.online.service.concurrent import together
from withhold.online.service.crafting import Crafting, Unavailable
from withhold.online.service.logs import Log
from withhold.online.service.problems import Problem, problem_of
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

Outcome = Released | Problem


class Protecting:
    """Protects images for clients.

    Args:
        together: Images of one request that are in the queue at a time.
    """

    def __init__(self, crafting: Crafting, accounting: Accounting, together: int, log: Log) -> None:
        self._crafting, self._accounting, self._together, self._log = crafting, accounting, together, log

    async def one(self, client: Client, upload: Upload, speed: SpeedName, key: str | None) -> Released:
        """Protect an image.

        Raises:
            WithholdError: As the ledger and crafting raise.
        """
        reservation = await self._reserved(client, [upload], speed, key)
        try:
            released = await self._crafting.protect(upload, speed)
            await self._accounting.record(reservation, [released])
        except BaseException:
            await self.give_back(reservation)
            raise
        return released

    async def many(self, client: Client, uploads: Sequence[Upload], speed: SpeedName, key: str | None) -> list[Outcome]:
        """Protect images, at least one; what is wrong with one of them is its own outcome.

        Raises:
            WithholdError: As the ledger raises.
            Unavailable: The images are not taken now.
        """
        reservation = await self._reserved(client, uploads, speed, key)
        try:
            turns = asyncio.Semaphore(self._together)
            outcomes = await together([self._in_turn(turns, upload, speed) for upload in uploads])
            released = [each for each in outcomes if isinstance(each, Released)]
            await self._accounting.record(reservation, released)
        except BaseException:
            await self.give_back(reservation)
            raise
        if len(released) < len(outcomes):
            await self.give_back(reservation)
        return outcomes

    async def outcome(self, upload: Upload, speed: SpeedName) -> Outcome:
        """Craft an image of a request that was accepted, when there is room; nothing is recorded.

        Raises:
            Unavailable: The image is not taken now.
        """
        try:
            return await self._crafting.protect(upload, speed, patient=True)
        except Unavailable:
            raise
        except Exception as error:  # of this image, not of the others
            problem = problem_of(error)
            self._log.failure(problem, error)
            return problem

    async def check(self) -> None:
        """Return if images can be protected.

        Raises:
            Unavailable: They cannot.
        """
        await self._crafting.check()

    async def give_back(self, reservation: Reservation) -> None:
        """Give back what was not recorded; if the ledger is away, it expires by itself."""
        with contextlib.suppress(LedgerUnavailable):
            await self._accounting.release(reservation)

    async def _reserved(
        self, client: Client, uploads: Sequence[Upload], speed: SpeedName, key: str | None
    ) -> Reservation:
        """Reserve images; if nobody waits for that any more, it is given back as soon as it is done."""
        reserving = asyncio.create_task(self._accounting.reserve(client, uploads, speed, key=key))
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            await self.give_back(await reserving)
            raise

    async def _in_turn(self, turns: asyncio.Semaphore, upload: Upload, speed: SpeedName) -> Outcome:
        async with turns:
            return await self.outcome(upload, speed)
