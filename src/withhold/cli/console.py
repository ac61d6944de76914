"""What the command line says on stderr while it works."""

from collections.abc import Iterator
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
        columns = (description, BarColumn(), MofNCompleteColumn(), PaceColumn())
        self._progress = Progress(*columns, console=self._console)
        self._progress.add_task(task, total=total, unit=unit)
        self._progress.start()

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0], count)

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

    def finish(self) -> None:
        """Say nothing of a task's end."""


def rate(speed: float) -> str:
    """Write a rate with three significant digits at most.

    >>> rate(1234.5), rate(12.34), rate(0.1234)
    ('1234', '12.3', '0.123')
    """
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.3g}"  # noqa: PLR2004 - three digits


@contextmanager
def reporting(quiet: bool) -> Iterator[Reporter]:
    """Open the reporter that suits stderr, and give the terminal back whatever happens."""
    console = Console(stderr=True)
    reporter: Reporter = SILENT if quiet else Bars(console) if console.is_terminal else Sentences(console)
    try:
        yield reporter
    finally:
        reporter.finish()


def complain(text: str) -> None:
    """Print an error message on stderr, also when quiet."""
    Console(stderr=True).print(f"withhold: {text}", markup=False, highlight=False, soft_wrap=True)
