"""The report of a classification: what the page says, as values for its template."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from withhold.evaluation.report import words
from withhold.evaluation.report.curves import curves
from withhold.evaluation.report.frame import render_page
from withhold.evaluation.report.heat import heat
from withhold.evaluation.report.histogram import alike
from withhold.evaluation.report.marks import Mark, guessing, mark
from withhold.evaluation.report.pictures import Row, row
from withhold.evaluation.results import LEAST_ALIKE, Attempt, Evaluation, Picture

HERE = Path(__file__).parent
MANY_CLASSES = 40


def render(evaluation: Evaluation) -> str:
    """Draw the page; equal evaluations give equal pages."""
    return render_page(HERE, _content(evaluation))


def _content(evaluation: Evaluation) -> dict[str, Any]:
    verdict = evaluation.verdict
    shown = [_shown(picture) for picture in evaluation.pictures]
    return {
        "evaluation": evaluation,
        "verdict": verdict,
        "marks": _marks(evaluation),
        "strongest": attempt_name(verdict.strongest) if verdict.strongest else None,
        "heat": heat(evaluation),
        "curves": curves(evaluation),
        "classes": _class_rows(evaluation),
        "many_classes": len(evaluation.classes) > MANY_CLASSES,
        "sampled": [each for each in shown if each.picture.chosen != LEAST_ALIKE],
        "worst": [each for each in shown if each.picture.chosen == LEAST_ALIKE],
        "alike": alike(evaluation.quality),
        "facts": [
            ("Settings", words.flat(evaluation.settings)),
            ("Data", words.flat(evaluation.data)),
            ("Environment", words.flat(evaluation.environment)),
        ],
        "material": words.material,
    }


def attempt_name(attempt: Attempt) -> str:
    """Name an attempt in a sentence."""
    return f"{words.countermeasure(attempt.countermeasure)}, {attempt.network}"


def _marks(evaluation: Evaluation) -> list[Mark]:
    verdict = evaluation.verdict
    rows: list[tuple[str, str, Attempt | None]] = [
        ("Trained on the originals", "original", verdict.clean),
        ("Originals under random noise", "noise", verdict.noise),
        ("Release, undefended", "plain", verdict.undefended),
        ("Release, best competitor tried", "strongest", verdict.strongest),
    ]
    marks = [_mark(title, kind, attempt) for title, kind, attempt in rows if attempt is not None]
    return [*marks, guessing("the most frequent class", evaluation.chance)]


def _mark(title: str, kind: str, attempt: Attempt) -> Mark:
    detail = attempt_name(attempt) if kind == "strongest" else attempt.network
    return mark(title, detail, kind, attempt.best, attempt.last)


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Accuracy for one class; None without test images, or where the attempt is missing."""

    name: str
    accuracies: tuple[float | None, ...]


def _class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """List classes, those that the strongest competitor knows best on top."""
    verdict = evaluation.verdict
    tried = (verdict.clean, verdict.undefended, verdict.strongest)
    rows = [
        ClassRow(name, tuple(_of_class(attempt, index) for attempt in tried))
        for index, name in enumerate(evaluation.classes)
    ]
    return sorted(rows, key=lambda row: -1.0 if row.accuracies[2] is None else row.accuracies[2], reverse=True)


def _of_class(attempt: Attempt | None, index: int) -> float | None:
    return attempt.per_class[index] if attempt is not None and index < len(attempt.per_class) else None


@dataclass(frozen=True, slots=True)
class Shown:
    """One pair as the page shows it.

    Attributes:
        reduced: Whether the files are larger than what is shown.
    """

    picture: Picture
    row: Row
    reduced: bool


def _shown(picture: Picture) -> Shown:
    titled = (
        ("Original", picture.original),
        ("Released", picture.released),
        (f"Difference \u00d7 {picture.magnified:g}", picture.difference),
    )
    placed = row(titled)
    return Shown(picture, placed, picture.size is not None and picture.size != (placed.width, placed.height))
