"""One image of a job: from its original to its result, however often that is interrupted."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from withhold.errors import RunStopped
from withhold.online.protector import Released
from withhold.online.service.answers import Result
from withhold.online.service.crafting import Stopping
from withhold.online.service.logs import Log
from withhold.online.service.problems import Problem
from withhold.online.service.protecting import Outcome, Protecting
from withhold.online.service.retrying import until_possible
from withhold.online.service.stored_jobs import Image, StoredJobs
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

MOST_STARTS = 5
"""Starts of an image that did not end, after which it is refused: it may be what kills the process."""


class JobImages:
    """Protects the images of jobs. Used from one event loop."""

    def __init__(self, protecting: Protecting, stored: StoredJobs, log: Log) -> None:
        self._protecting, self._stored, self._log = protecting, stored, log
        self._suspects = asyncio.Lock()

    async def finish(
        self,
        job: str,
        number: int,
        image: Image,
        speed: SpeedName,
        record: Callable[[Released], Awaitable[None]],
    ) -> None:
        """See to it that there is a result of an image, and its original no more.

        Args:
            record: Called with the released image before its result is stored.

        Raises:
            Unreadable: The original cannot be read back.
            WithholdError: As `record` raises.
        """
        if not self._stored.has_result(job, number):
            result = await self._result(job, number, image, speed, record)
            await until_possible(lambda: self._stored.put_result(job, number, result), self._log)
        await self._stored.discard_original(job, number)

    async def _result(
        self,
        job: str,
        number: int,
        image: Image,
        speed: SpeedName,
        record: Callable[[Released], Awaitable[None]],
    ) -> Result:
        if image.problem is not None:
            return Result.refused(number, image.problem)
        upload = image.upload(await self._stored.original(job, number))
        outcome = await self._outcome(job, number, upload, speed)
        if isinstance(outcome, Released):
            await record(outcome)
        return Result.of(number, outcome)

    async def _outcome(self, job: str, number: int, upload: Upload, speed: SpeedName) -> Outcome:
        """Craft an image, unless that was begun too often and never ended.

        One that was begun before is begun again only when no other such image is in work, so that those that were
        beside the one that kills the process are not taken for it.
        """
        starts = await self._stored.starts(job, number)
        if starts == 0 and (found := await self._attempt(job, number, upload, speed, starts)) is not None:
            return found
        async with self._suspects:
            for before in range(max(1, starts), MOST_STARTS):
                if (found := await self._attempt(job, number, upload, speed, before)) is not None:
                    return found
        self._log.event("job-image-refused", image=number, starts=MOST_STARTS)
        detail = f"The service ended {MOST_STARTS} times while it protected this image, so it is not tried again."
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "not-protectable", detail)

    async def _attempt(self, job: str, number: int, upload: Upload, speed: SpeedName, before: int) -> Outcome | None:
        """Craft an image; None if what crafted it was lost."""
        await until_possible(self._protecting.check, self._log)
        await until_possible(lambda: self._stored.note_starts(job, number, before + 1), self._log)

        async def craft() -> Outcome | None:
            try:
                return await self._protecting.outcome(upload, speed)
            except Stopping:
                return None

        try:
            return await until_possible(craft, self._log)
        except asyncio.CancelledError:  # an orderly end says nothing against the image
            with contextlib.suppress(RunStopped):
                await self._stored.note_starts(job, number, before)
            raise
