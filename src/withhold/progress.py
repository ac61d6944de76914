"""What a long task tells its caller; silence is the default, so library users pay nothing."""

from typing import Protocol


class Reporter(Protocol):
    """Receives what happens during a run."""

    def say(self, text: str) -> None:
        """State a decision or a finding in one sentence."""
        ...

    def start(self, task: str, total: int, unit: str) -> None:
        """Begin a task of `total` units; only one task runs at a time."""
        ...

    def advance(self, count: int = 1) -> None:
        """Record finished units of the current task."""
        ...

    def status(self, **counts: int) -> None:
        """State how the current task stands beside its progress, such as how many workers there are."""
        ...

    def finish(self) -> None:
        """End the current task."""
        ...


class Silent:
    """A reporter that says nothing."""

    def say(self, text: str) -> None:
        """Ignore the text."""

    def start(self, task: str, total: int, unit: str) -> None:
        """Ignore the task."""

    def advance(self, count: int = 1) -> None:
        """Ignore progress."""

    def status(self, **counts: int) -> None:
        """Ignore how it stands."""

    def finish(self) -> None:
        """Ignore the end."""


SILENT = Silent()
