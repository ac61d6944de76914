"""Training what is missing: cells whose results are stored are not run again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from withhold.evaluation.estimate import Estimate
from withhold.evaluation.jobs import Runner, Task, Workers
from withhold.evaluation.store import Named, Result, ResultFiles
from withhold.progress import Reporter


class AnyCell(Named, Task, Protocol):
    """A cell: it can be run, and its result be stored."""


CellOf = TypeVar("CellOf", bound=AnyCell)
CellOf_contra = TypeVar("CellOf_contra", bound=AnyCell, contravariant=True)
ResultOf = TypeVar("ResultOf", bound=Result[Any])
ResultOf_co = TypeVar("ResultOf_co", bound=Result[Any], covariant=True)


class CellRunner(Runner[CellOf_contra, ResultOf_co], Protocol):
    """What all cells of an evaluation share."""

    def config(self, cell: CellOf_contra, /) -> dict[str, Any]:
        """Give everything that the cell's outcome depends on, as plain JSON values."""
        ...


@dataclass(frozen=True, slots=True)
class Trainings(Generic[CellOf, ResultOf]):
    """How the cells of an evaluation are run.

    Attributes:
        store: Of finished results.
        estimate: Time that some cells will take.
        line: One finished result in words.
    """

    harness: CellRunner[CellOf, ResultOf]
    where: Workers
    store: ResultFiles[CellOf, ResultOf]
    estimate: Callable[[Sequence[CellOf]], Estimate]
    line: Callable[[ResultOf], str]

    def pending(self, cells: Sequence[CellOf]) -> list[CellOf]:
        """List the cells that have no stored result."""
        return [cell for cell in cells if self.store.load(cell, self.harness.config(cell)) is None]

    def run(self, cells: Sequence[CellOf], reporter: Reporter) -> list[ResultOf]:
        """Run the cells that have no stored result; return all results in the order of the cells.

        Raises:
            InvalidInput: A stored result is damaged.
            RunStopped: Some cells failed; what was finished is kept.
        """
        stored = {cell: self.store.load(cell, self.harness.config(cell)) for cell in cells}
        pending = [cell for cell in cells if stored[cell] is None]
        if pending:
            reporter.say(_announce(self.estimate(pending), len(cells), len(pending)))
            reporter.start("Training competitors", len(pending), "trainings")
            for result in self.where.run(pending, self.harness, reporter):
                self.store.save(result)
                stored[result.cell] = result
                reporter.advance()
                reporter.say(self.line(result))
            reporter.finish()
        return [known for cell in cells if (known := stored[cell]) is not None]


def _announce(expected: Estimate, total: int, pending: int) -> str:
    done = f", {total - pending} of them finished before" if pending < total else ""
    return f"{total} trainings{done}; about {expected} to go."
