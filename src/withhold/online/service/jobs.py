"""Long work: accepted, polled, fetched, deleted; it goes on after the process was killed."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from withhold.online.ledger import (
    FINISHED,
    Client,
    Job,
    JobState,
    Ledger,
    Reservation,
)
from withhold.online.protector import Released
from withhold.online.service.accounting import Accounting
from withhold.online.service.answers import Result
from withhold.online.service.concurrent import together
from withhold.online.service.job_images import JobImages
from withhold.online.service.logs import Log, context_of
from withhold.online.service.problems import Problem, later, problem_of
from withhold.online.service.protecting import Protecting
from withhold.online.service.retrying import until_possible
from withhold.online.service.spool import Unreadable
from withhold.online.service.stored_jobs import JOBS_RETRY, Image, Manifest, StoredJobs
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

LONGEST_CHECK = 600.0
"""Seconds between looks for results that are too old."""

T = TypeVar("T")


class JobRunner:
    """Runs jobs in the background. Used from one event loop.

    Of each image the original is deleted once it was protected, recorded and its result is on disk. So a job that was
    interrupted anywhere goes on by doing again what has no result yet, and every image is counted once.

    Args:
        ledger: With their table.
        at_once: Images of one job that are in work at a time.
        on_image: Called with each released image.
    """

    def __init__(
        self,
        protecting: Protecting,
        accounting: Accounting,
        ledger: Ledger,
        stored: StoredJobs,
        *,
        at_once: int,
        most: int,
        hours: float,
        log: Log,
        on_image: Callable[[Released], None] = lambda _: None,
    ) -> None:
        self._protecting, self._accounting, self._ledger, self._stored = protecting, accounting, ledger, stored
        self._jobs = ledger.jobs
        self._images = JobImages(protecting, stored, log)
        self._at_once, self._most, self._hours, self._log, self._on_image = at_once, most, hours, log, on_image
        self._turns = asyncio.Semaphore(2 * at_once)  # while some are crafted, as many are read
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reservations: dict[str, Reservation] = {}
        self._upkeep: list[asyncio.Task[None]] = []
        self._taking_over = asyncio.Lock()

    def unfinished(self) -> int:
        """Count the jobs that this process works on."""
        return len(self._tasks)

    def start(self) -> None:
        """Go on with the jobs whose files are there, and delete what nobody waits for."""
        self._stored.expect_results()
        found = self._stored.names()  # of an earlier process; what comes from now on is not among them
        self._upkeep = [asyncio.create_task(self._resume(found)), asyncio.create_task(self._keep_expiring())]

    async def stop(self) -> None:
        """Interrupt all jobs; the next process goes on with them."""
        tasks = [*self._upkeep, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Interrupt all jobs, and wait for what is being read or written."""
        await self.stop()
        await self._stored.close()

    async def accept(
        self, client: Client, images: Sequence[Upload | Problem], speed: SpeedName, key: str | None
    ) -> Job:
        """Take images on; when this returns, a kill does not lose them.

        Args:
            images: At least one `Upload`; a problem stands for an image that was refused on arrival.

        Returns:
            The job; the earlier one, if the client used the same key for the same before.

        Raises:
            Problem: There are as many jobs as may be, or there is no space for this one.
            WithholdError: As the ledger raises.
        """
        if self.unfinished() >= self._most:
            raise later(HTTPStatus.TOO_MANY_REQUESTS, "jobs-full", "As many jobs wait as may.", JOBS_RETRY)
        own = uuid.uuid4().hex
        manifest = Manifest(key=key or f"job-{own}", speed=speed, images=tuple(Image.of(image) for image in images))
        uploads = [image for image in images if isinstance(image, Upload)]
        reservation = await self._reserve(client, uploads, manifest)
        try:
            job = await self._created(own, client, key, manifest, images)
            taken = job.id == own or await self._took_over(job, manifest, images)
        except BaseException:
            await self._stored.delete(own)
            await self._protecting.give_back(reservation)
            raise
        if taken:
            self._reservations[job.id] = reservation
            self._begin(job)
        if job.id != own:
            await self._stored.delete(own)
        if not taken:
            await self._protecting.give_back(reservation)
        return job

    async def find(self, job: str, client: Client) -> Job | None:
        """Find a client's job."""
        return await self._accounting.call(self._jobs.get, job, client)

    async def delete(self, job: Job) -> None:
        """Cancel a job, or delete the results of one that is done; one that was ended before stays as it is."""
        await self._stored.withdraw(job.id)  # first, so that a kill leaves no results of a deleted job to fetch
        await self._accounting.call(self._jobs.end, job.id)
        task = self._tasks.get(job.id)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._give_back(job)
        await self._stored.delete(job.id)

    def has_results(self, job: Job) -> bool:
        """Say whether the results of a job are still there."""
        return self._stored.is_finished(job.id)

    def largest_result(self, job: Job) -> int:
        """Return the bytes of the largest of the results of a finished job."""
        return self._stored.largest_result(job.id, job.images)

    def results(self, job: Job) -> Iterator[Result]:
        """Read the results of a finished job, in the order of its images.

        Raises:
            Unreadable: They were deleted meanwhile.
        """
        return self._stored.results(job.id, job.images)

    async def expire(self) -> None:
        """Delete the results that are too old.

        Raises:
            LedgerUnavailable: The ledger is away.
        """
        before = datetime.now(UTC) - timedelta(hours=self._hours)
        doomed = set(await self._accounting.call(self._jobs.delete_old, before))
        for job in self._stored.names():
            age = self._stored.age(job)
            if job in doomed or (age is not None and age > self._hours * 3600):
                await self._stored.delete(job)

    async def _reserve(self, client: Client, uploads: Sequence[Upload], manifest: Manifest) -> Reservation:
        return await self._accounting.reserve(client, uploads, manifest.speed, key=manifest.key, hours=self._hours)

    async def _created(
        self,
        own: str,
        client: Client,
        key: str | None,
        manifest: Manifest,
        images: Sequence[Upload | Problem],
    ) -> Job:
        earlier = None if key is None else await self._accounting.call(self._jobs.find, client, key)
        if earlier is not None:
            return earlier
        await self._stored.store(own, manifest, images)
        created = await self._accounting.call(self._jobs.create, own, client, key, len(images))
        await self._stored.confirm(own)
        return created

    async def _took_over(self, job: Job, manifest: Manifest, images: Sequence[Upload | Problem]) -> bool:
        """Store the images of an earlier job again if they are lost.

        The ledger may go away after it made a job and before it said so. Then the client was told to try again, and
        nothing is left of the job but its row.
        """
        if not self._is_lost(job):
            return False
        async with self._taking_over:
            known = await self._accounting.call(self._jobs.get, job.id, job.client)
            if known is None or not self._is_lost(known):
                return False
            try:
                await self._stored.store(job.id, manifest, images)
                await self._stored.confirm(job.id)
            except BaseException:
                await self._stored.delete(job.id)
                raise
            return True

    def _is_lost(self, job: Job) -> bool:
        return job.state not in FINISHED and job.id not in self._tasks and not self._stored.is_stored(job.id)

    def _begin(self, job: Job) -> None:
        task = asyncio.create_task(self._run(job), name=f"withhold-job-{job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _resume(self, found: Sequence[str]) -> None:
        listed = await self._until_possible(lambda: self._accounting.call(self._jobs.unfinished))
        unfinished = {job.id: job for job in listed}
        for name in found:
            if name in unfinished:
                await self._stored.confirm(name)
                self._begin(unfinished[name])
            elif not self._stored.is_finished(name) and await self._until_possible(partial(self._is_unwanted, name)):
                await self._stored.delete(name)

    async def _is_unwanted(self, name: str) -> bool:
        """Say whether an unfinished job that the ledger does not wait for may go, or is another ledger's."""
        if not (self._stored.is_stored(name) and self._stored.is_confirmed(name)):  # its client has no answer
            return True
        for client in await self._accounting.call(self._ledger.clients):
            if await self._accounting.call(self._jobs.get, name, client) is not None:
                return True  # it was cancelled or deleted, or failed
        self._log.event("job-kept", job=name, text="The ledger does not know this job; was it another --ledger?")
        return False

    async def _keep_expiring(self) -> None:
        while True:
            await self._until_possible(self.expire)
            await asyncio.sleep(min(LONGEST_CHECK, max(1.0, self._hours * 360)))

    async def _run(self, job: Job) -> None:
        context_of(job=job.id)
        state, problem = JobState.DONE, None
        done: int | None = job.images
        try:
            await self._work(job)
        except Exception as error:
            found = _lost() if isinstance(error, Unreadable) else problem_of(error)
            self._log.failure(found, error)
            state, problem, done = JobState.FAILED, found.detail, None
        await self._give_back(job)
        await self._update(job.id, state=state, done=done, problem=problem)
        if state is JobState.FAILED:
            await self._stored.delete(job.id)
        self._log.event("job", client=job.client.name, state=state.value, images=job.images)

    async def _work(self, job: Job) -> None:
        manifest = await self._stored.manifest(job.id)
        if job.id not in self._reservations and self._lacks_results(job):  # an earlier process began it
            await self._until_possible(lambda: self._reserve_again(job, manifest))
        await self._update(job.id, state=JobState.RUNNING)
        numbers = iter(enumerate(manifest.images, 1))
        done: list[int] = []

        async def note() -> None:  # what is done when it succeeds, not when it was tried first
            await self._accounting.call(self._jobs.update, job.id, done=len(done))

        async def take_turns() -> None:
            for number, image in numbers:
                async with self._turns:
                    await self._images.finish(job.id, number, image, manifest.speed, partial(self._record, job))
                done.append(number)
                await self._until_possible(note)

        await together([take_turns() for _ in range(self._at_once)])
        await self._until_possible(lambda: self._stored.finish(job.id))

    async def _record(self, job: Job, released: Released) -> None:
        """Enter a released image in the ledger, before anybody can have it."""
        await self._until_possible(lambda: self._accounting.record(self._reservations[job.id], [released]))
        self._on_image(released)

    async def _update(
        self, job: str, *, state: JobState | None = None, done: int | None = None, problem: str | None = None
    ) -> None:
        update = partial(self._jobs.update, job, state=state, done=done, problem=problem)
        await self._until_possible(lambda: self._accounting.call(update))

    async def _give_back(self, job: Job) -> None:
        """Give back what a job reserved and did not record; not at a shutdown, for it still belongs to the job then."""
        reservation = self._reservations.pop(job.id, None)
        if reservation is not None:
            await self._protecting.give_back(reservation)

    def _lacks_results(self, job: Job) -> bool:
        return not all(self._stored.has_result(job.id, number) for number in range(1, job.images + 1))

    async def _reserve_again(self, job: Job, manifest: Manifest) -> None:
        """Take over what an earlier process reserved, or reserve anew what expired meanwhile."""
        uploads = [image.upload(b"") for image in manifest.images if image.problem is None]
        reservation = await self._reserve(job.client, uploads, manifest)
        self._reservations[job.id] = reservation
        await self._protecting.give_back(reservation)  # the earlier process held it too, and never will again

    async def _until_possible(self, work: Callable[[], Awaitable[T]]) -> T:
        return await until_possible(work, self._log)


def _lost() -> Problem:
    detail = "The images of this job cannot be read back. Send them again."
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "job-lost", detail)
