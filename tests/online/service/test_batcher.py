import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from tests.online.service.fakes import released

from withhold.data.pixels import Picture
from withhold.online.image import Accepted
from withhold.online.protector import Released
from withhold.online.service.batcher import Batcher
from withhold.online.service.crafting import Stopping
from withhold.online.service.running_mean import FIRST_GUESS, OLD_SHARE, RunningMean
from withhold.online.settings import SpeedName

pytestmark = pytest.mark.anyio
FOREVER = 3600.0
PATIENCE = 20.0


def image(name: str, side: int = 4) -> Accepted:
    return Accepted(Picture(np.zeros((side, side, 3), np.uint8)), 0, name)


class Work:
    """Stands in for the protector: it stops before each batch until the test lets it go on."""

    def __init__(self, *, stops: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.errors: dict[str, Exception] = {}
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self._stops = stops

    def __call__(self, images: Sequence[Accepted], speed: SpeedName) -> list[Released | Exception]:
        self.batches.append([each.sha256 for each in images])
        self.begun.release()
        if self._stops:
            assert self.go_on.acquire(timeout=PATIENCE)
        names = [each.sha256 for each in images]
        return [self.errors.get(name) or released(name.encode(), None, speed) for name in names]

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE)


@asynccontextmanager
async def batching(work: Work, *, max_batch: int = 4, max_wait: float = 0.0, **options: Any) -> AsyncIterator[Batcher]:  # noqa: ANN401
    batcher = Batcher(work, max_batch=max_batch, max_wait=max_wait, **options)
    try:
        yield batcher
    finally:
        work.go_on.release(100)
        await batcher.close()


def submit(batcher: Batcher, name: str, speed: SpeedName = "full", side: int = 4) -> asyncio.Task[Released]:
    return asyncio.create_task(batcher.submit(image(name, side), speed))


async def queued(batcher: Batcher, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while batcher.waiting() != count:
            await asyncio.sleep(0)


async def test_each_image_gets_its_own_result() -> None:
    async with batching(Work()) as batcher:
        results = await asyncio.gather(*(submit(batcher, name) for name in "abcdefg"))
    assert [each.content for each in results] == [released(name.encode(), None, "full").content for name in "abcdefg"]


async def test_a_full_batch_does_not_wait_for_company() -> None:
    work = Work()
    sizes: list[int] = []
    async with batching(work, max_batch=3, max_wait=FOREVER, on_batch=sizes.append) as batcher:
        await asyncio.gather(*(submit(batcher, name) for name in "abc"))
    assert work.batches == [["a", "b", "c"]]
    assert sizes == [3]


async def test_an_image_alone_is_crafted_when_it_waited_long_enough() -> None:
    work = Work()
    async with batching(work, max_batch=3, max_wait=0.02) as batcher:
        await submit(batcher, "a")
    assert work.batches == [["a"]]


async def test_what_comes_while_another_batch_is_crafted_is_put_together() -> None:
    work = Work(stops=True)
    async with batching(work, max_batch=2) as batcher:
        tasks = [submit(batcher, "a")]
        await work.has_begun()
        tasks += [submit(batcher, name) for name in "bcd"]
        await queued(batcher, 3)
        work.go_on.release(10)
        await asyncio.gather(*tasks)
    assert work.batches == [["a"], ["b", "c"], ["d"]]


async def test_speeds_and_shapes_are_not_mixed_and_the_oldest_goes_first() -> None:
    work = Work(stops=True)
    async with batching(work) as batcher:
        tasks = [submit(batcher, "a")]
        await work.has_begun()
        for name, speed, side in (("b", "full", 4), ("c", "quick", 4), ("d", "full", 5), ("e", "full", 4)):
            tasks.append(submit(batcher, name, speed, side))  # type: ignore[arg-type]
            await queued(batcher, len(tasks) - 1)
        work.go_on.release(10)
        await asyncio.gather(*tasks)
    assert work.batches == [["a"], ["b", "e"], ["c"], ["d"]]


async def test_an_image_that_nobody_waits_for_leaves_the_queue() -> None:
    work = Work(stops=True)
    async with batching(work) as batcher:
        first, second, third = (submit(batcher, name) for name in "abc")
        await work.has_begun()
        assert work.batches == [["a", "b", "c"]]
        late, later = submit(batcher, "d"), submit(batcher, "e")
        await queued(batcher, 2)
        late.cancel()
        second.cancel()  # begun: the batch goes on without it
        await queued(batcher, 1)
        work.go_on.release(10)
        await asyncio.gather(first, third, later)
        assert batcher.waiting() == 0
    assert work.batches == [["a", "b", "c"], ["e"]]
    assert late.cancelled()
    assert second.cancelled()


async def test_a_failure_is_that_of_one_image_only() -> None:
    work = Work()
    work.errors["b"] = RuntimeError("out of memory")
    async with batching(work, max_batch=3, max_wait=FOREVER) as batcher:
        results = await asyncio.gather(*(submit(batcher, name) for name in "abc"), return_exceptions=True)
        assert results[1] is work.errors["b"]
        for name, result in (("a", results[0]), ("c", results[2])):
            assert isinstance(result, Released)
            assert result.content == released(name.encode(), None, "full").content
        work.errors.clear()
        assert len(await asyncio.gather(*(submit(batcher, name) for name in "abc"))) == 3  # and it lives on


async def test_closing_ends_the_batch_and_refuses_the_rest() -> None:
    work = Work(stops=True)
    batcher = Batcher(work, max_batch=1, max_wait=0.0)
    begun = submit(batcher, "a")
    await work.has_begun()
    waiting = submit(batcher, "b")
    await queued(batcher, 1)
    closing = asyncio.create_task(batcher.close())
    with pytest.raises(Stopping):
        await waiting
    assert not closing.done()
    work.go_on.release()
    assert (await begun).content == released(b"a", None, "full").content
    await closing
    with pytest.raises(Stopping):
        await batcher.submit(image("c"), "full")
    assert work.batches == [["a"]]


async def test_closing_what_never_began_is_nothing() -> None:
    await Batcher(Work(), max_batch=1, max_wait=0.0).close()


async def test_the_seconds_of_an_image_are_measured() -> None:
    async with batching(Work(), max_batch=2) as batcher:
        assert batcher.needed.seconds == FIRST_GUESS
        await submit(batcher, "a")
        assert 0 < batcher.needed.seconds < FIRST_GUESS


async def test_the_guess_is_forgotten_at_the_first_measurement_and_later_ones_count_by_their_age() -> None:
    needed = RunningMean()
    assert needed.seconds == FIRST_GUESS
    needed.add(4.0)
    assert needed.seconds == 4.0
    needed.add(2.0)
    assert needed.seconds == pytest.approx(OLD_SHARE * 4 + (1 - OLD_SHARE) * 2)
