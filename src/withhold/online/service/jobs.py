"""Long work: accepted, polled, fetched, cancelled; it goes on after the process was killed."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel

from withhold.errors import RunStopped
from withhold.online.ledger import (
    FINISHED,
    Client,
    Job,
    JobState,
    Ledger,
    LedgerUnavailable,
    QuotaExceeded,
    Reservation,
)
from withhold.online.protector import Released
from withhold.online.service.accounting import Accounting
from withhold.online.service.answers import Result
from withhold.online.service.concurrent import together
from withhold.online.service.crafting import Stopping, Unavailable
from withhold.online.service.logs import Log, context_of
from withhold.online.service.problems import Problem, ProblemDetails, later, problem_of
from withhold.online.service.protecting import Outcome, Protecting
from withhold.online.service.spool import Spool, Unreadable
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

MANIFEST, PENDING, END = "manifest", "pending", "end"
"""Files of a job beside its images: what it is, that it is not in the ledger yet, and that it is finished."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts while the ledger is away or the disk is full."""

MOST_STARTS = 5
"""Starts of an image that did not end, after which it is refused: it may be what kills the process."""

LONGEST_CHECK = 600.0
"""Seconds between looks for results that are too old."""

JOBS_RETRY = 60
T = TypeVar("T")


class Image(BaseModel):
    """An image of a job: what it is to be protected as, or why it was refused on arrival."""

    label: str | None = None
    sha256: str = ""
    problem: ProblemDetails | None = None


class Manifest(BaseModel):
    """What a job is.

    Attributes:
        key: Under which its images are reserved in the ledger.
    """

    key: str
    speed: SpeedName
    images: tuple[Image, ...]


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
        spool: Spool,
        *,
        at_once: int,
        most: int,
        hours: float,
        log: Log,
        on_image: Callable[[Released], None] = lambda _: None,
    ) -> None:
        self._protecting, self._accounting, self._ledger, self._spool = protecting, accounting, ledger, spool
        self._jobs = ledger.jobs
        self._at_once, self._most, self._hours, self._log, self._on_image = at_once, most, hours, log, on_image
        self._turns = asyncio.Semaphore(2 * at_once)  # while some are crafted, as many are read
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reservations: dict[str, Reservation] = {}
        self._upkeep: list[asyncio.Task[None]] = []
        self._taking_over = asyncio.Lock()
        self._suspects = asyncio.Lock()

    def unfinished(self) -> int:
        """Count the jobs that this process works on."""
        return len(self._tasks)

    def start(self) -> None:
        """Go on with the jobs whose files are there, and delete what nobody waits for."""
        found = list(self._spool.jobs())  # of an earlier process; what comes from now on is not among them
        self._upkeep = [asyncio.create_task(self._resume(found)), asyncio.create_task(self._keep_expiring())]

    async def stop(self) -> None:
        """Interrupt all jobs; the next process goes on with them."""
        tasks = [*self._upkeep, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(
        self, client: Client, images: Sequence[Upload | Problem], speed: SpeedName, key: str | None
    ) -> Job:
        """Take images on; when this returns, a kill does not lose them.

        Args:
            images: At least one `Upload`; a problem stands for an image that was refused on arrival.

        Returns:
            The job; the earlier one, if the client used the same key for the same before.

        Raises:
            Problem: There are as many jobs as may be, or the disk is full.
            WithholdError: As the ledger raises.
        """
        if self.unfinished() >= self._most:
            raise later(HTTPStatus.TOO_MANY_REQUESTS, "jobs-full", "As many jobs wait as may.", JOBS_RETRY)
        own = uuid.uuid4().hex
        manifest = Manifest(key=key or f"job-{own}", speed=speed, images=tuple(_described(image) for image in images))
        uploads = [image for image in images if isinstance(image, Upload)]
        reservation = await self._reserve(client, uploads, manifest)
        try:
            job = await self._created(own, client, key, manifest, images)
            taken = job.id == own or await self._took_over(job, manifest, images)
        except BaseException as error:
            await self._accounting.call(self._spool.delete, own)
            await self._protecting.give_back(reservation)
            if isinstance(error, RunStopped):
                detail = "There is no space left for jobs."
                raise later(HTTPStatus.INSUFFICIENT_STORAGE, "disk-full", detail, JOBS_RETRY) from error
            raise
        if taken:
            self._reservations[job.id] = reservation
            self._begin(job)
        if job.id != own:
            await self._accounting.call(self._spool.delete, own)
        if not taken:
            await self._protecting.give_back(reservation)
        return job

    async def find(self, job: str, client: Client) -> Job | None:
        """Find a client's job."""
        return await self._accounting.call(self._jobs.get, job, client)

    async def cancel(self, job: Job) -> None:
        """End a job and delete its files, results among them."""
        await self._accounting.call(self._jobs.update, job.id, state=JobState.CANCELLED)
        task = self._tasks.get(job.id)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._give_back(job)
        await self._accounting.call(self._spool.delete, job.id)

    def has_results(self, job: Job) -> bool:
        """Say whether the results of a job are still there."""
        return self._spool.has(job.id, END)

    def results(self, job: Job) -> Iterator[Result]:
        """Read the results of a finished job, in the order of its images.

        Raises:
            Unreadable: They were deleted meanwhile.
        """
        for number in range(1, job.images + 1):
            yield Result.from_bytes(self._spool.read(job.id, _result(number)))

    async def expire(self) -> None:
        """Delete the results that are too old.

        Raises:
            LedgerUnavailable: The ledger is away.
        """
        before = datetime.now(UTC) - timedelta(hours=self._hours)
        doomed = set(await self._accounting.call(self._jobs.delete_old, before))
        for job in self._spool.jobs():
            age = self._spool.age(job, END)
            if job in doomed or (age is not None and age > self._hours * 3600):
                await self._accounting.call(self._spool.delete, job)

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
        await self._accounting.call(self._store, own, manifest, images)
        created = await self._accounting.call(self._jobs.create, own, client, key, len(images))
        await self._accounting.call(self._spool.remove, own, PENDING)
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
                await self._accounting.call(self._store, job.id, manifest, images)
                await self._accounting.call(self._spool.remove, job.id, PENDING)
            except BaseException:
                await self._accounting.call(self._spool.delete, job.id)
                raise
            return True

    def _is_lost(self, job: Job) -> bool:
        return job.state not in FINISHED and job.id not in self._tasks and not self._spool.has(job.id, MANIFEST)

    def _store(self, job: str, manifest: Manifest, images: Sequence[Upload | Problem]) -> None:
        self._spool.write(job, PENDING, b"")
        for number, image in enumerate(images, 1):
            if isinstance(image, Upload):
                self._spool.write(job, _original(number), image.content)
        self._spool.write(job, MANIFEST, manifest.model_dump_json().encode())

    def _begin(self, job: Job) -> None:
        task = asyncio.create_task(self._run(job), name=f"withhold-job-{job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _resume(self, found: Sequence[str]) -> None:
        unfinished = {job.id: job for job in await self._insist(lambda: self._accounting.call(self._jobs.unfinished))}
        for name in found:
            if name in unfinished:
                await self._accounting.call(self._spool.remove, name, PENDING)
                self._begin(unfinished[name])
            elif not self._spool.has(name, END) and await self._insist(partial(self._is_unwanted, name)):
                await self._accounting.call(self._spool.delete, name)

    async def _is_unwanted(self, name: str) -> bool:
        """Say whether an unfinished job that the ledger does not wait for may go, or is another ledger's."""
        if not self._spool.has(name, MANIFEST) or self._spool.has(name, PENDING):  # its client has no answer
            return True
        for client in await self._accounting.call(self._ledger.clients):
            if await self._accounting.call(self._jobs.get, name, client) is not None:
                return True  # it was cancelled, or failed
        self._log.event("job-kept", job=name, text="The ledger does not know this job; was it another --ledger?")
        return False

    async def _keep_expiring(self) -> None:
        while True:
            await self._insist(self.expire)
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
        update = self._jobs.update
        await self._insist(lambda: self._accounting.call(update, job.id, state=state, done=done, problem=problem))
        if state is JobState.FAILED:
            await self._accounting.call(self._spool.delete, job.id)
        self._log.event("job", client=job.client.name, state=state.value, images=job.images)

    async def _work(self, job: Job) -> None:
        stored = await self._accounting.call(self._spool.read, job.id, MANIFEST)
        manifest = Manifest.model_validate_json(stored)
        if job.id not in self._reservations and self._lacks_results(job):  # an earlier process began it
            await self._insist(lambda: self._reserve_again(job, manifest))
        await self._insist(lambda: self._accounting.call(self._jobs.update, job.id, state=JobState.RUNNING))
        numbers = iter(enumerate(manifest.images, 1))
        done: list[int] = []

        async def note() -> None:
            await self._accounting.call(self._jobs.update, job.id, done=len(done))

        async def take_turns() -> None:
            for number, image in numbers:
                async with self._turns:
                    await self._image(job, manifest, number, image)
                done.append(number)
                await self._insist(note)

        await together([take_turns() for _ in range(self._at_once)])
        await self._insist(lambda: self._accounting.call(self._spool.write, job.id, END, b""))

    async def _give_back(self, job: Job) -> None:
        """Give back what a job reserved and did not record; not at a shutdown, for it still belongs to the job then."""
        reservation = self._reservations.pop(job.id, None)
        if reservation is not None:
            await self._protecting.give_back(reservation)

    def _lacks_results(self, job: Job) -> bool:
        return not all(self._spool.has(job.id, _result(number)) for number in range(1, job.images + 1))

    async def _reserve_again(self, job: Job, manifest: Manifest) -> None:
        """Take over what an earlier process reserved, or reserve anew what expired meanwhile."""
        uploads = [Upload(b"", image.label, image.sha256) for image in manifest.images if image.problem is None]
        reservation = await self._reserve(job.client, uploads, manifest)
        self._reservations[job.id] = reservation
        await self._protecting.give_back(reservation)  # the earlier process held it too, and never will again

    async def _image(self, job: Job, manifest: Manifest, number: int, image: Image) -> None:
        call, spool = self._accounting.call, self._spool
        if not spool.has(job.id, _result(number)):
            result = await self._result(job, manifest.speed, number, image)
            await self._insist(lambda: call(spool.write, job.id, _result(number), result.to_bytes()))
        await call(spool.remove, job.id, _original(number))
        await call(spool.remove, job.id, _starts(number))

    async def _result(self, job: Job, speed: SpeedName, number: int, image: Image) -> Result:
        if image.problem is not None:
            return Result.refused(number, image.problem)
        content = await self._accounting.call(self._spool.read, job.id, _original(number))
        upload = Upload(content, image.label, image.sha256)
        outcome = await self._outcome(job, number, upload, speed)
        if isinstance(outcome, Released):
            await self._insist(lambda: self._accounting.record(self._reservations[job.id], [outcome]))
            self._on_image(outcome)
        return Result.of(number, outcome)

    async def _outcome(self, job: Job, number: int, upload: Upload, speed: SpeedName) -> Outcome:
        """Craft an image, unless that was begun too often and never ended.

        One that was begun before is begun again only when no other such image is in work, so that those that were
        beside the one that kills the process are not taken for it.
        """
        starts = await self._accounting.call(self._starts_of, job.id, number)
        if starts == 0 and (found := await self._attempt(job, number, upload, speed, starts)) is not None:
            return found
        async with self._suspects:
            for before in range(max(1, starts), MOST_STARTS):
                if (found := await self._attempt(job, number, upload, speed, before)) is not None:
                    return found
        problem = _unending()
        self._log.event("job-image-refused", image=number, starts=MOST_STARTS)
        return problem

    def _starts_of(self, job: str, number: int) -> int:
        return int(self._spool.read(job, _starts(number))) if self._spool.has(job, _starts(number)) else 0

    async def _attempt(self, job: Job, number: int, upload: Upload, speed: SpeedName, before: int) -> Outcome | None:
        """Craft an image; None if what crafted it was lost."""
        call, write, name = self._accounting.call, self._spool.write, _starts(number)
        await self._insist(self._protecting.check)
        await self._insist(lambda: call(write, job.id, name, str(before + 1).encode()))

        async def craft() -> Outcome | None:
            try:
                return await self._protecting.outcome(upload, speed)
            except Stopping:
                return None

        try:
            return await self._insist(craft)
        except asyncio.CancelledError:  # an orderly end says nothing against the image
            if before == 0:
                await call(self._spool.remove, job.id, name)
            else:
                with contextlib.suppress(RunStopped):
                    await call(write, job.id, name, str(before).encode())
            raise

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Try again while the ledger is away, the disk full or a quota used up: what was accepted is not lost."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await work()
            except (LedgerUnavailable, QuotaExceeded, RunStopped, Unavailable) as error:
                self._log.event("job-waits", error=type(error).__name__, seconds=pause)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


def _described(image: Upload | Problem) -> Image:
    if isinstance(image, Problem):
        return Image(problem=image.details())
    return Image(label=image.label, sha256=image.sha256)


def _lost() -> Problem:
    detail = "The images of this job cannot be read back. Send them again."
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "job-lost", detail)


def _unending() -> Problem:
    detail = f"The service ended {MOST_STARTS} times while it protected this image, so it is not tried again."
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "not-protectable", detail)


def _original(number: int) -> str:
    return f"{number}.original"


def _starts(number: int) -> str:
    return f"{number}.starts"


def _result(number: int) -> str:
    return f"{number}.result"
