"""Jobs as files of a spool: what each is, its originals until they are protected, and its results."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import ParamSpec, TypeVar

from pydantic import BaseModel, ValidationError

from withhold.errors import RunStopped
from withhold.online.service.answers import BYTES_PER_PIXEL, Result
from withhold.online.service.problems import Problem, ProblemDetails, later
from withhold.online.service.settings import MOST_PIXELS
from withhold.online.service.spool import Spool, Unreadable
from withhold.online.service.threads import Threads
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

MANIFEST, PENDING, END = "manifest", "pending", "end"
"""Files of a job beside its images: what it is, that it is not in the ledger yet, and that it is finished."""

OVERHEAD = 16 * 2**10
"""Bytes that an image may take beside its original and its pixels: the headers of files, its numbers or its problem."""

JOBS_RETRY = 60
THREADS = 8
Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


class Image(BaseModel):
    """An image of a job: what it is to be protected as, or why it was refused on arrival.

    Attributes:
        pixels: As many as may be, if an earlier version wrote this.
    """

    label: str | None = None
    sha256: str = ""
    pixels: int = MOST_PIXELS
    problem: ProblemDetails | None = None

    @classmethod
    def of(cls, image: Upload | Problem) -> "Image":
        """Describe an image as it came."""
        if isinstance(image, Problem):
            return cls(pixels=0, problem=image.details())
        return cls(label=image.label, sha256=image.sha256, pixels=image.pixels)

    def upload(self, content: bytes) -> Upload:
        """Give the image as it came."""
        return Upload(content, self.label, self.sha256, self.pixels)


class Manifest(BaseModel):
    """What a job is.

    Attributes:
        key: Under which its images are reserved in the ledger.
    """

    key: str
    speed: SpeedName
    images: tuple[Image, ...]

    def expected(self) -> dict[str, int]:
        """Say how many bytes each result may take, by the name of its file."""
        return {
            _result(number): BYTES_PER_PIXEL * image.pixels + OVERHEAD for number, image in enumerate(self.images, 1)
        }


class StoredJobs:
    """The files of jobs, by the ids of these and by the numbers of images, from 1. Used from one event loop.

    What is awaited here happens in threads of its own, and is done when it returns, also if it was cancelled: so
    nothing is written after a job was deleted.

    Args:
        most_bytes: Of all files, those that accepted jobs are yet to have among them.
    """

    def __init__(self, spool: Spool, most_bytes: int) -> None:
        self._spool, self._most = spool, most_bytes
        self._threads = Threads(THREADS, "withhold-spool")

    def names(self) -> list[str]:
        """List the jobs that have files."""
        return list(self._spool.jobs())

    def expect_results(self) -> None:
        """Keep room for the results that the jobs of an earlier process are yet to have."""
        for job in self.names():
            with contextlib.suppress(Unreadable):  # whoever works on it finds that out too
                expected = self._manifest(job).expected()
                missing = {name: size for name, size in expected.items() if not self._spool.has(job, name)}
                self._spool.expect(job, missing)

    async def store(self, job: str, manifest: Manifest, images: Sequence[Upload | Problem]) -> None:
        """Write a job; until `confirm` it is one whose client has no answer.

        Raises:
            Problem: There is no space for it and its results.
        """
        originals = {
            _original(number): image.content for number, image in enumerate(images, 1) if isinstance(image, Upload)
        }
        expected = {name: len(content) for name, content in originals.items()} | manifest.expected()
        needed = sum(expected.values())
        if needed > self._most:
            raise _too_large(needed, self._most)
        if self._spool.taken + needed > self._most:
            raise _no_space("spool-full")
        self._spool.expect(job, expected)
        try:
            await self._call(self._write, job, manifest, originals)
        except RunStopped as error:
            raise _no_space("disk-full") from error

    async def confirm(self, job: str) -> None:
        """Note that the ledger knows a job."""
        await self._call(self._spool.remove, job, PENDING)

    async def manifest(self, job: str) -> Manifest:
        """Read what a job is.

        Raises:
            Unreadable: It cannot be read back.
        """
        return await self._call(self._manifest, job)

    async def original(self, job: str, number: int) -> bytes:
        """Read an image as it came.

        Raises:
            Unreadable: It cannot be read back.
        """
        return await self._call(self._spool.read, job, _original(number))

    async def starts(self, job: str, number: int) -> int:
        """Return how often an image was begun and did not end.

        Raises:
            Unreadable: That cannot be read back.
        """
        if not self._spool.has(job, _starts(number)):
            return 0
        return int(await self._call(self._spool.read, job, _starts(number)))

    async def note_starts(self, job: str, number: int, starts: int) -> None:
        """Note how often an image was begun and did not end.

        Raises:
            RunStopped: The disk is full.
        """
        if starts == 0:
            await self._call(self._spool.remove, job, _starts(number))
        else:
            await self._call(self._spool.write, job, _starts(number), str(starts).encode())

    async def put_result(self, job: str, number: int, result: Result) -> None:
        """Write a result.

        Raises:
            RunStopped: The disk is full.
        """
        await self._call(self._spool.write, job, _result(number), result.to_bytes())

    async def discard_original(self, job: str, number: int) -> None:
        """Delete an image as it came, and how often it was begun."""
        await self._call(self._spool.remove, job, _original(number))
        await self._call(self._spool.remove, job, _starts(number))

    async def finish(self, job: str) -> None:
        """Let the results of a job be fetched.

        Raises:
            RunStopped: The disk is full.
        """
        await self._call(self._spool.write, job, END, b"")

    async def withdraw(self, job: str) -> None:
        """Let no results of a job be fetched any more, before they are deleted."""
        await self._call(self._spool.remove, job, END)

    async def delete(self, job: str) -> None:
        """Delete all files of a job, if there are any."""
        await self._call(self._spool.delete, job)

    def is_stored(self, job: str) -> bool:
        """Say whether a job was written whole."""
        return self._spool.has(job, MANIFEST)

    def is_confirmed(self, job: str) -> bool:
        """Say whether the ledger knew a job."""
        return not self._spool.has(job, PENDING)

    def is_finished(self, job: str) -> bool:
        """Say whether the results of a job can be fetched."""
        return self._spool.has(job, END)

    def has_result(self, job: str, number: int) -> bool:
        """Say whether there is a result of an image."""
        return self._spool.has(job, _result(number))

    def largest_result(self, job: str, images: int) -> int:
        """Return the bytes of the largest result of a job with so many images."""
        return max(self._spool.size(job, _result(number)) for number in range(1, images + 1))

    def results(self, job: str, images: int) -> Iterator[Result]:
        """Read the results of a job with so many images, in their order.

        Raises:
            Unreadable: They were deleted meanwhile.
        """
        for number in range(1, images + 1):
            yield Result.from_bytes(self._spool.read(job, _result(number)))

    def age(self, job: str) -> float | None:
        """Return the seconds since a job was finished; None if it is not."""
        return self._spool.age(job, END)

    async def close(self) -> None:
        """Begin nothing more, and wait for what was begun."""
        await self._threads.close()

    def _manifest(self, job: str) -> Manifest:
        try:
            return Manifest.model_validate_json(self._spool.read(job, MANIFEST))
        except ValidationError as error:
            msg = f"{MANIFEST} of job {job} is not as this version writes it"
            raise Unreadable(msg) from error

    def _write(self, job: str, manifest: Manifest, originals: Mapping[str, bytes]) -> None:
        self._spool.write(job, PENDING, b"")
        for name, content in originals.items():
            self._spool.write(job, name, content)
        self._spool.write(job, MANIFEST, manifest.model_dump_json().encode())

    async def _call(
        self, function: Callable[Parameters, Returned], *args: Parameters.args, **options: Parameters.kwargs
    ) -> Returned:
        work = asyncio.ensure_future(self._threads.call(function, *args, **options))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.gather(work, return_exceptions=True)
            raise


def _no_space(reason: str) -> Problem:
    detail = "There is no space left for jobs; those whose results you have fetched can be deleted."
    return later(HTTPStatus.INSUFFICIENT_STORAGE, reason, detail, JOBS_RETRY)


def _too_large(needed: int, most: int) -> Problem:
    detail = f"The job and its results may take {needed} bytes, and all jobs together have {most}. Send fewer images."
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "job-too-large", detail)


def _original(number: int) -> str:
    return f"{number}.original"


def _starts(number: int) -> str:
    return f"{number}.starts"


def _result(number: int) -> str:
    return f"{number}.result"
