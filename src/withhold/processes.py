"""Processes that end with the one that started them, however that one ends."""

import contextlib
import os
import threading
from multiprocessing.connection import Connection


def end_with(watched: Connection) -> None:
    """End this process, whatever it does, as soon as the other end of a connection is closed."""
    threading.Thread(target=_wait_for_the_end, args=(watched,), daemon=True).start()


def _wait_for_the_end(watched: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        watched.recv()
    os._exit(1)
