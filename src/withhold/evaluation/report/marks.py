"""Rows of the figure under the verdict."""

from dataclasses import dataclass

from withhold.evaluation.report import words
from withhold.evaluation.results import Spread


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of the figure under the verdict, which compares attempts at their best epoch as the verdict does.

    Attributes:
        best: Accuracy; None if every training diverged.
        says: The same in words, with its deviation.
        last: Accuracy after the last epoch; None for guessing.
    """

    title: str
    detail: str
    kind: str
    best: float | None
    says: str
    last: float | None


def mark(title: str, detail: str, kind: str, best: Spread | None, last: Spread | None) -> Mark:
    """Make a row of what was measured."""
    says = words.spread(best) if best else "diverged"
    return Mark(title, detail, kind, best.mean if best else None, says, last.mean if last else None)


def guessing(detail: str, chance: float) -> Mark:
    """Make the last row."""
    return Mark("Guessing", detail, "chance", chance, words.percent(chance), None)
