import asyncio
import threading

import pytest

from withhold.online.service.threads import Threads

pytestmark = pytest.mark.anyio


async def test_a_call_gives_what_it_returns_or_raises() -> None:
    threads = Threads(1, "test")
    assert await threads.call(divmod, 7, 2) == (3, 1)
    assert await threads.call(int, "11", base=2) == 3
    with pytest.raises(ZeroDivisionError):
        await threads.call(divmod, 1, 0)
    await threads.close()


async def test_a_call_goes_on_when_nobody_waits_for_it_and_is_waited_for_at_the_end() -> None:
    threads = Threads(1, "test")
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()
        ended.set()

    waiting = asyncio.create_task(threads.call(work))
    await asyncio.to_thread(begun.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not ended.is_set()
    may_end.set()
    await threads.close()
    assert ended.is_set()
