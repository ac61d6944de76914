"""What the routes share: limits, the way to protect, jobs, and how all of it ends."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from typing import Never

from fastapi import Request

from withhold.errors import InvalidInput
from withhold.online.ledger import Ledger
from withhold.online.protector import Released
from withhold.online.service.accounting import Accounting
from withhold.online.service.answers import BYTES_PER_PIXEL
from withhold.online.service.batcher import RESTART
from withhold.online.service.budget import Budget
from withhold.online.service.concurrent import together
from withhold.online.service.crafting import Crafting, Stopping
from withhold.online.service.forms import OVERHEAD, Fields, Form
from withhold.online.service.jobs import JobRunner
from withhold.online.service.logs import Log
from withhold.online.service.metrics import Metrics
from withhold.online.service.problems import Problem, later, problem_of
from withhold.online.service.protecting import Protecting
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.spool import Spool
from withhold.online.service.stored_jobs import StoredJobs
from withhold.online.service.threads import Threads
from withhold.online.service.uploads import TooManyPixels, Upload, label_named

BUSY_RETRY = 2
INSPECTORS = 2
"""Threads that read headers and hash."""


class Service:
    """The parts of a running service. Used from one event loop.

    Attributes:
        stopping: No more work is accepted.
    """

    def __init__(
        self,
        crafting: Crafting,
        ledger: Ledger,
        settings: ServiceSettings,
        spool: Spool,
        *,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self.crafting, self.settings, self.metrics, self.log = crafting, settings, metrics, log
        self.accounting = Accounting(ledger, crafting.about)
        at_once = settings.max_batch or crafting.about.lanes
        self.protecting = Protecting(crafting, self.accounting, at_once, log)
        self.jobs = JobRunner(
            self.protecting,
            self.accounting,
            ledger,
            StoredJobs(spool, settings.max_spool_bytes),
            at_once=at_once,
            most=settings.max_jobs,
            hours=settings.job_hours,
            log=log,
            on_image=lambda released: self.count(released, "/v1/jobs"),
        )
        metrics.watch(crafting.waiting, self.jobs.unfinished)
        self.stopping = False
        self._inspecting = Threads(INSPECTORS, "withhold-inspecting")
        self._received = Budget(sys.maxsize, settings.max_received_bytes)
        self._answers = Budget(sys.maxsize, settings.max_answer_bytes)
        self._handed_back = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Go on with the jobs of an earlier process."""
        self.jobs.start()

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, finish what was accepted, and after some time hand back the rest."""
        self.stopping = True
        await self.jobs.stop()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self._handed_back.set()
            await self._idle.wait()

    async def close(self) -> None:
        """End everything that runs."""
        await self.jobs.close()
        await self.crafting.close()
        await self.accounting.close()
        await self._inspecting.close()

    @contextmanager
    def working(self, request: Request, fields: Fields) -> Iterator[None]:
        """Count the bytes of a request, from its first byte to its answer.

        Raises:
            Stopping: The service ends.
            Problem: The request is too large, or too much is being received.
        """
        if self.stopping:
            raise Stopping(RESTART)
        size = fields.size(request)
        if not self._received.fits(size):
            raise _busy("received")
        with self._received.take(size):
            self._idle.clear()
            try:
                yield
            finally:
                if self._received.taken == 1:
                    self._idle.set()

    def expect_pixels(self, request: Request, uploads: Sequence[Upload]) -> None:
        """Count the bytes that an answer with images may have, until it is sent.

        Raises:
            TooManyPixels: They are too large to be answered at once.
            Problem: Too much is being sent.
        """
        most, pixels = self.settings.max_request_pixels, sum(upload.pixels for upload in uploads)
        if pixels > most:
            raise TooManyPixels(f"The images of one answer have at most {most} pixels. Send fewer, or make it a job.")
        self.expect_bytes(request, BYTES_PER_PIXEL * pixels)

    def expect_bytes(self, request: Request, size: int) -> None:
        """Count the bytes of an answer until it is sent.

        Raises:
            Problem: Too much is being sent.
        """
        if not self._answers.fits(size):
            raise _busy("sent")
        until_sent: ExitStack = request.state.until_sent
        until_sent.enter_context(self._answers.take(size))

    async def handed_back(self) -> Never:
        """Wait until the service hands back what it has not finished.

        Raises:
            Stopping: It does.
        """
        await self._handed_back.wait()
        raise Stopping(RESTART)

    def fields_of_one(self) -> Fields:
        """Say what a form with one image may hold."""
        settings = self.settings
        return Fields("image", "label", 1, settings.max_bytes + OVERHEAD, settings.receive_timeout)

    def fields_of_many(self) -> Fields:
        """Say what a form with several images may hold."""
        settings = self.settings
        return Fields("images", "labels", settings.max_images, settings.max_request_bytes, settings.receive_timeout)

    async def upload(self, content: bytes, label: str) -> Upload:
        """Look at an image before it is counted.

        Raises:
            Problem: The file is too large.
            InvalidInput: The label is unknown; the kind is; there are too many pixels, or no header.
        """
        most = self.settings.max_bytes
        if len(content) > most:
            detail = f"An image has at most {most} bytes, this one has {len(content)}. Send a smaller one."
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
        named = label_named(label, self.crafting.about.classes)
        return await self._inspecting.call(Upload.of, content, named, self.settings.max_pixels)

    async def uploads(self, form: Form) -> list[Upload | Problem]:
        """Look at images before they are counted; what is wrong with one of them stands in its place.

        Raises:
            Problem: Something is wrong with each of them.
        """
        found = await together([self._upload_or_problem(*pair) for pair in zip(form.images, form.labels, strict=True)])
        problems = [each for each in found if isinstance(each, Problem)]
        if len(problems) == len(found):
            raise problems[0]
        for problem in problems:
            self.metrics.rejections.labels(problem.reason).inc()
        return found

    def count(self, released: Released, route: str) -> None:
        """Count a released image."""
        self.metrics.images.labels(released.speed, route).inc()

    async def _upload_or_problem(self, content: bytes, label: str) -> Upload | Problem:
        try:
            return await self.upload(content, label)
        except (InvalidInput, Problem) as error:
            return problem_of(error)


def _busy(what: str) -> Problem:
    return later(HTTPStatus.TOO_MANY_REQUESTS, "busy", f"As much is being {what} as may.", BUSY_RETRY)
