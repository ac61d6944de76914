"""Images that come one by one, crafted together: by one thread, without any of them waiting long for company."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from withhold.online.image import Accepted
from withhold.online.protector import Released
from withhold.online.service.crafting import Stopping
from withhold.online.settings import SpeedName

Work = Callable[[Sequence[Accepted], SpeedName], Sequence[Released]]
Kind = tuple[SpeedName, tuple[int, ...]]
"""Images that can share a batch: those of one speed and one shape."""

FIRST_GUESS = 1.0
"""Seconds that an image is taken to need before the first was measured."""

OLD_SHARE = 0.9
"""Of the running mean of these seconds, kept when a batch is measured."""

RESTART = 10
"""Seconds within which another process should have taken over from one that ends."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """An image in the queue.

    Attributes:
        order: Number among all that came.
        due: Loop time until which it may wait for company.
    """

    image: Accepted
    order: int
    due: float
    result: asyncio.Future[Released]


class Batcher:
    """Queues images, and has them crafted in batches of one kind.

    A batch begins when the thread is free and either a kind has `max_batch` images or its oldest one has waited for
    `max_wait` seconds; of several such kinds the one whose oldest image came first. Used from one event loop.

    Attributes:
        seconds: That an image needs, a running mean.
    """

    def __init__(
        self, work: Work, *, max_batch: int, max_wait: float, on_batch: Callable[[int], None] = lambda _: None
    ) -> None:
        self.seconds = FIRST_GUESS
        self._measured = False
        self._work, self._max_batch, self._max_wait, self._on_batch = work, max_batch, max_wait, on_batch
        self._queues: defaultdict[Kind, deque[_Waiting]] = defaultdict(deque)
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "withhold-crafting")
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, image: Accepted, speed: SpeedName) -> Released:
        """Have an image crafted; cancelled before it is begun, it leaves the queue.

        Raises:
            Stopping: The batcher was closed before the image was begun.
            RunStopped: The result is not fit to be released. Whatever else crafting raises, it raises for this image.
        """
        if self._closed:
            raise Stopping(RESTART)
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run(), name="withhold-batcher")
        kind = speed, image.picture.levels.shape
        waiting = _Waiting(image, next(self._numbers), loop.time() + self._max_wait, loop.create_future())
        self._queues[kind].append(waiting)
        self._changed.set()
        try:
            return await waiting.result
        finally:
            self._forget(kind, waiting)

    def waiting(self) -> int:
        """Count the images that are not begun."""
        return sum(len(queue) for queue in self._queues.values())

    async def close(self) -> None:
        """Refuse what is not begun, and end after the batch that is."""
        self._closed = True
        for waiting in itertools.chain.from_iterable(self._queues.values()):
            if not waiting.result.done():
                waiting.result.set_exception(Stopping(RESTART))
        self._queues.clear()
        self._changed.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=False)

    def _forget(self, kind: Kind, waiting: _Waiting) -> None:
        queue = self._queues.get(kind)
        if queue is None:
            return
        if waiting in queue:
            queue.remove(waiting)
        if not queue:
            del self._queues[kind]

    async def _run(self) -> None:
        while not self._closed:
            self._changed.clear()
            found = self._next()
            if isinstance(found, tuple):
                await self._craft(*found)
                continue
            try:
                async with asyncio.timeout_at(found):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _next(self) -> tuple[SpeedName, list[_Waiting]] | float | None:
        """Take the batch to craft now; or say until when to wait for one, None if nothing waits."""
        now = asyncio.get_running_loop().time()
        filled = {kind: queue for kind, queue in self._queues.items() if queue}
        ready = [kind for kind, queue in filled.items() if len(queue) >= self._max_batch or queue[0].due <= now]
        if not ready:
            return min((queue[0].due for queue in filled.values()), default=None)
        kind = min(ready, key=lambda kind: filled[kind][0].order)
        queue = filled[kind]
        return kind[0], [queue.popleft() for _ in range(min(len(queue), self._max_batch))]

    async def _craft(self, speed: SpeedName, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        self._on_batch(len(batch))
        began = loop.time()
        try:
            results = await self._crafted(speed, batch)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            for waiting in batch:  # so that an image fails by itself only
                await self._craft(speed, [waiting])
            return
        seconds = (loop.time() - began) / len(batch)
        self.seconds = OLD_SHARE * self.seconds + (1 - OLD_SHARE) * seconds if self._measured else seconds
        self._measured = True
        for waiting, released in zip(batch, results, strict=True):
            if not waiting.result.done():
                waiting.result.set_result(released)

    async def _crafted(self, speed: SpeedName, batch: list[_Waiting]) -> Sequence[Released]:
        images = [waiting.image for waiting in batch]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, images, speed)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.result.done():
        waiting.result.set_exception(error)
