"""Bounded, ordered work in threads; decoding, hashing and encoding release the interpreter lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = min(16, os.cpu_count() or 1)
"""Threads that decode, encode and hash; more than sixteen only wait for the interpreter lock."""


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS) -> Iterator[Result]:
    """Apply a function to items in threads and yield the results in order.

    Items are drawn in the caller's thread, at most two per thread ahead, so memory stays bounded; the first exception
    ends the work and is raised as it is.

    >>> list(map_ahead(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="withhold-codec")
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
