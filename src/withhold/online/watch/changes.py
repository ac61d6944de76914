"""Waiting until something happens in the inbox."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from withhold.errors import InvalidInput

Wait = Callable[[float], object]
"""Returns after this many seconds, or earlier with a reason."""

TICK_MS, GROUPED_MS = 500, 200
"""Longest wait in one go, and how long events are gathered before they are told."""


class Changes:
    """Tells of files that appear or change in a folder, as long as it is entered.

    Args:
        stop: Ends every wait.
        say: Told if the system cannot announce changes.

    Raises:
        InvalidInput: The package watchfiles is missing.
    """

    def __init__(self, folder: Path, stop: threading.Event, say: Callable[[str], None]) -> None:
        try:
            import watchfiles  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            msg = "watching a folder needs watchfiles, which is not installed; run `pip install 'withhold[serve]'`"
            raise InvalidInput(msg) from None
        self._folder = folder
        self._stop = stop
        self._say = say
        self._events: Generator[object, None, None] | None = watchfiles.watch(
            folder,
            watch_filter=lambda change, path: change != watchfiles.Change.deleted and self._visible(path),
            stop_event=stop,
            debounce=GROUPED_MS,
            rust_timeout=TICK_MS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )

    def __enter__(self) -> Wait:
        """Begin: what happens from now on is not missed."""
        self._next()
        return self.wait

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Stop."""
        if self._events is not None:
            self._events.close()

    def wait(self, seconds: float) -> None:
        """Return once something happened, the time is over, or the watch is to stop."""
        deadline = time.monotonic() + seconds
        while not self._stop.is_set() and (left := deadline - time.monotonic()) > 0:
            if self._events is None or left < TICK_MS / 1000:
                self._stop.wait(min(left, TICK_MS / 1000))
            elif self._next():
                return

    def _next(self) -> bool:
        if self._events is None:
            return False
        try:
            return bool(next(self._events, None))
        except (OSError, RuntimeError) as error:
            self._say(f"The system announces no changes in {self._folder} ({error}); it is looked at now and then.")
            self._events = None
            return False

    def _visible(self, path: str) -> bool:
        with suppress(ValueError):
            return not any(part.startswith(".") for part in Path(path).relative_to(self._folder).parts)
        return True
