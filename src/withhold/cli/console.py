"""What the command line says on stderr while it works."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from withhold.progress import SILENT, Reporter


class PaceColumn(ProgressColumn):
    """Finished units per second and the time left, from the mean so far.

    Rich's own estimate forgets what is older than half a minute, and a batch can take longer than that.
    """

    def render(self, task: Task) -> Text:
        """Render the pace once something is finished."""
        if not (task.completed and task.elapsed and task.total is not None):
            return Text("")
        speed = task.completed / task.elapsed
        left = timedelta(seconds=round((task.total - task.completed) / speed))
        return Text(f"{rate(speed)} {task.fields['unit']}/s, {left} left")


class StatusColumn(ProgressColumn):
    """How a task stands beside its progress, such as `2 workers, 0 retries`."""

    def render(self, task: Task) -> Text:
        """Render the counts, if there are any."""
        return Text(", ".join(f"{count} {name}" for name, count in task.fields["counts"].items()))


class Bars:
    """Progress bars on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None

    def say(self, text: str) -> None:
        """Print one sentence above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, task: str, total: int, unit: str) -> None:
        """Show a new bar."""
        self.finish()
        description = TextColumn("{task.description}", markup=False)
        columns = (description, BarColumn(), MofNCompleteColumn(), PaceColumn(), StatusColumn())
        self._progress = Progress(*columns, console=self._console)
        self._progress.add_task(task, total=total, unit=unit, counts={})
        self._progress.start()

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0], count)

    def status(self, **counts: int) -> None:
        """Show counts behind the bar."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], counts=counts)

    def finish(self) -> None:
        """Leave the bar as it stands."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Sentences:
    """What is worth a line in a log or a pipe: decisions and findings, without progress."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print one sentence as one line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, task: str, total: int, unit: str) -> None:
        """Say nothing of a task's beginning."""

    def advance(self, count: int = 1) -> None:
        """Say nothing of progress."""

    def status(self, **counts: int) -> None:
        """Say nothing of how a task stands."""

    def finish(self) -> None:
        """Say nothing of a task's end."""


class Lines:
    """One JSON document a line, for programs: what is said, and at most once a second how far a task is.

    Args:
        write: Called with each line.
        clock: In seconds.
    """

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._task: str | None = None
        self._unit, self._total, self._done = "", 0, 0
        self._began = self._told = 0.0
        self._counts: dict[str, int] = {}

    def say(self, text: str) -> None:
        """Write one sentence."""
        self._line("note", text=text)

    def start(self, task: str, total: int, unit: str) -> None:
        """Write that a task begins."""
        self.finish()
        self._task, self._total, self._unit, self._done, self._counts = task, total, unit, 0, {}
        self._began = self._told = self._clock()
        self._line("started", task=task, total=total, unit=unit)

    def advance(self, count: int = 1) -> None:
        """Write how far the task is, unless that was just done."""
        self._done += count
        self._tell()

    def status(self, **counts: int) -> None:
        """Write how the task stands, if that is new."""
        if counts != self._counts:
            self._counts = counts
            self._tell(at_once=True)

    def finish(self) -> None:
        """Write that the task has ended."""
        if self._task is not None:
            self._line("ended", **self._state())
            self._task = None

    def _tell(self, *, at_once: bool = False) -> None:
        now = self._clock()
        if self._task is not None and (at_once or now - self._told >= 1):
            self._told = now
            self._line("progress", **self._state())

    def _state(self) -> dict[str, object]:
        seconds = self._clock() - self._began
        speed = self._done / seconds if seconds > 0 else 0.0
        left = (self._total - self._done) / speed if speed else None
        return {
            "task": self._task,
            "done": self._done,
            "total": self._total,
            "unit": self._unit,
            "seconds": round(seconds, 1),
            "per_second": round(speed, 3),
            "seconds_left": None if left is None else round(left, 1),
            **self._counts,
        }

    def _line(self, event: str, **facts: object) -> None:
        self._write(json.dumps({"event": event, **facts}, ensure_ascii=False))


def rate(speed: float) -> str:
    """Write a rate with three significant digits at most.

    >>> rate(1234.5), rate(12.34), rate(0.1234)
    ('1234', '12.3', '0.123')
    """
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.3g}"  # noqa: PLR2004 - three digits


@contextmanager
def reporting(quiet: bool, *, lines: bool = False) -> Iterator[Reporter]:
    """Open the reporter that suits stderr, and give the terminal back whatever happens.

    Args:
        lines: Write JSON documents, for programs.
    """
    console = Console(stderr=True)
    reporter: Reporter = Bars(console) if console.is_terminal else Sentences(console)
    if lines:
        reporter = Lines(_write_line)
    if quiet:
        reporter = SILENT
    try:
        yield reporter
    finally:
        reporter.finish()


def _write_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def complain(text: str) -> None:
    """Print an error message on stderr, also when quiet."""
    Console(stderr=True).print(f"withhold: {text}", markup=False, highlight=False, soft_wrap=True)
