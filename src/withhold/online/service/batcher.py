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
from withhold.online.service.running_mean import RunningMean
from withhold.online.settings import SpeedName

Work = Callable[[Sequence[Accepted], SpeedName], Sequence[Released | Exception]]
"""Crafts images together, and gives for each what was released, or what went wrong; see `Protector.protect_each`."""

Kind = tuple[SpeedName, tuple[int, ...]]
"""Images that can share a batch: those of one speed and one shape."""

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
        needed: Seconds for an image, measured by the batch.
    """

    def __init__(
        self, work: Work, *, max_batch: int, max_wait: float, on_batch: Callable[[int], None] = lambda _: None
    ) -> None:
        self.needed = RunningMean()
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
        images = [waiting.image for waiting in batch]
        began = loop.time()
        results = await loop.run_in_executor(self._thread, self._work, images, speed)
        self.needed.add((loop.time() - began) / len(batch))
        for waiting, result in zip(batch, results, strict=True):
            if waiting.result.done():
                continue
            if isinstance(result, Exception):
                waiting.result.set_exception(result)
            else:
                waiting.result.set_result(result)
