"""The engine of one process: reading ahead, crafting, and writing behind, all at once.

Crafting stays in the calling thread. One thread reads and decodes the next batches, one encodes, writes and records the
finished ones, and both share a pool that decodes and encodes.
"""

import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from withhold.data.parallel import THREADS
from withhold.data.pixels import Picture
from withhold.progress import Reporter
from withhold.release.crafting import Crafted
from withhold.release.engines.batches import Batch, Finish, Work
from withhold.release.environment import reproducing

AHEAD, BEHIND = 2, 2
"""Batches that are read before they are crafted, and crafted ones that may wait to be written."""


class Local:
    """Works in this process."""

    threads: int | None = None

    def work_off(self, work: Work, batches: Iterable[Batch], finish: Finish, reporter: Reporter) -> float:
        """Craft and store batches; see `Engine`.

        An exception of any thread ends the work and is raised here. After an interrupt, crafted batches are still
        written. `finish` is called in the writing thread.
        """
        todo = iter(batches)
        seconds = 0.0
        with reproducing(work.environment), _Threads(work, finish) as threads:
            ahead: deque[tuple[Batch, Future[list[Picture]]]] = deque()
            behind: deque[Future[int]] = deque()
            while True:
                while len(ahead) <= AHEAD and (following := next(todo, None)) is not None:
                    ahead.append((following, threads.read(following)))
                if not ahead:
                    break
                batch, reading = ahead.popleft()
                pictures = reading.result()
                started = time.monotonic()
                crafted = work.craft(batch, pictures)
                seconds += time.monotonic() - started
                behind.append(threads.write(batch, pictures, crafted))
                while len(behind) > BEHIND or (behind and behind[0].done()):
                    reporter.advance(behind.popleft().result())
            for written in behind:
                reporter.advance(written.result())
        return seconds


class _Threads:
    """One reading thread, one writing thread, and a pool that both use."""

    def __init__(self, work: Work, finish: Finish) -> None:
        self._work, self._finish = work, finish
        self._codec = ThreadPoolExecutor(THREADS, "withhold-codec")
        self._reading = ThreadPoolExecutor(1, "withhold-read")
        self._writing = ThreadPoolExecutor(1, "withhold-write")
        self._handed_over: list[Future[int]] = []

    def __enter__(self) -> "_Threads":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._reading.shutdown(wait=False, cancel_futures=True)
        if kind is KeyboardInterrupt:
            wait(self._handed_over)
        for pool in (self._reading, self._writing, self._codec):
            pool.shutdown(cancel_futures=True)

    def read(self, batch: Batch) -> Future[list[Picture]]:
        return self._reading.submit(self._work.load, batch, self._codec)

    def write(self, batch: Batch, pictures: list[Picture], crafted: Crafted) -> Future[int]:
        self._handed_over = [each for each in self._handed_over if not each.done()]
        self._handed_over.append(self._writing.submit(self._store, batch, pictures, crafted))
        return self._handed_over[-1]

    def _store(self, batch: Batch, pictures: list[Picture], crafted: Crafted) -> int:
        self._finish(batch.number, self._work.store(batch, pictures, crafted, self._codec))
        return len(batch.entries)
