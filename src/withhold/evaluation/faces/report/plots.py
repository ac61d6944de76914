"""Drawings with an axis of their own: recognition in a growing crowd, and ROC curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from withhold.evaluation.faces.report.ways import Way
from withhold.evaluation.faces.results import FaceAttempt, Verification
from withhold.evaluation.report.curves import (
    LARGE,
    Curve,
    Frame,
    Line,
    Panel,
    Tick,
    ceiling_of,
    line,
    panel,
    part_labels,
    ticks,
)
from withhold.evaluation.report.words import percent

SQUARE = Frame(290, 290, 34, 12)
APART = 30.0
"""Least distance between two marks on the axis of crowds, so that their numbers do not meet."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark on the x axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing.

    Attributes:
        guessing: Points of the line that guessing gives.
        says: The drawing in words, for those who cannot see it.
    """

    title: str
    frame: Frame
    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]
    guessing: str
    lines: tuple[Line, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Roc:
    """ROC curves of one way, with the areas under them: name, kind of line, mean over the seeds."""

    plot: Plot
    areas: tuple[tuple[str, str, float], ...]


def training_curves(ways: Sequence[Way]) -> dict[str, Panel]:
    """Draw the accuracy of trained heads after each epoch: title -> drawing, for all ways that train one."""
    drawn = {way.title: (way, _curves(way)) for way in ways}
    drawn = {title: both for title, both in drawn.items() if both[1]}
    ceiling = ceiling_of([0.0, *(value for _, curves in drawn.values() for one in curves for value in one.accuracies)])
    return {title: panel(title, LARGE, curves, ceiling, way.first.chance) for title, (way, curves) in drawn.items()}


def _curves(way: Way) -> list[Curve]:
    return [Curve(name, kind, attempt.curve) for name, kind, attempt in way.lines if attempt.curve]


def crowds(ways: Sequence[Way]) -> dict[str, Plot]:
    """Draw rank-1 against the people and strangers among whom a probe is looked up: title -> drawing.

    The x axis is logarithmic. It counts everybody in the gallery, so that it begins with the owner's people alone.
    """
    drawn = [way for way in ways if any(attempt.crowd for _, _, attempt in way.lines)]
    values = [rate for way in drawn for _, _, attempt in way.lines for _, rate in _growing(attempt)]
    ceiling = ceiling_of([0.0, *values])
    return {way.title: _crowd(way, ceiling) for way in drawn}


def _growing(attempt: FaceAttempt) -> list[tuple[int, float]]:
    """List (entries in the gallery, rank-1)."""
    if attempt.rank1 is None:
        return []
    rates = {0: attempt.rank1.mean, **{strangers: rate.mean for strangers, rate in attempt.crowd}}
    return [(attempt.identities + strangers, rate) for strangers, rate in sorted(rates.items())]


def _crowd(way: Way, ceiling: float) -> Plot:
    found = [(name, kind, rates) for name, kind, attempt in way.lines if (rates := _growing(attempt))]
    sizes = sorted({size for _, _, rates in found for size, _ in rates})
    frame, spread = LARGE, math.log(sizes[-1] / sizes[0]) or 1.0

    def place(size: int) -> float:
        return frame.left + math.log(size / sizes[0]) / spread * (frame.end - frame.left)

    lines = [
        line(Curve(name, kind, [rate for _, rate in rates]), [place(size) for size, _ in rates], frame, ceiling)
        for name, kind, rates in found
    ]
    part_labels(lines, frame)
    guessing = " ".join(f"{place(size):.1f},{frame.height_of(1 / size, ceiling):g}" for size in sizes)
    ends = "; ".join(f"{name} {percent(rates[0][1])} to {percent(rates[-1][1])} %" for name, _, rates in found)
    says = f"Rank-1 among {sizes[0]} to {sizes[-1]} people and strangers, {way.title}: {ends}."
    marks = _apart([Mark(round(place(size), 1), str(size)) for size in sizes])
    return Plot(way.title, frame, marks, ticks(frame, ceiling), guessing, tuple(lines), says)


def _apart(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Keep the marks that have room, and always the first and the last one."""
    kept = [marks[0]]
    for mark in marks[1:-1]:
        if mark.x - kept[-1].x >= APART and marks[-1].x - mark.x >= APART:
            kept.append(mark)
    return tuple(dict.fromkeys([*kept, marks[-1]]))


def rocs(ways: Sequence[Way]) -> dict[str, Roc]:
    """Draw the ROC curves of the first seed: title -> drawing."""
    return {way.title: _roc(way) for way in ways if any(_checked(attempt) for _, _, attempt in way.lines)}


def _checked(attempt: FaceAttempt) -> Verification | None:
    return next((result.verification for result in attempt.results if result.verification), None)


def _roc(way: Way) -> Roc:
    frame = SQUARE
    lines, areas = [], []
    for name, kind, attempt in way.lines:
        found = _checked(attempt)
        if found is None or attempt.auc is None:
            continue
        places = [frame.left + far * (frame.end - frame.left) for far, _ in found.roc]
        lines.append(line(Curve(name, kind, [rate for _, rate in found.roc]), places, frame, 1.0))
        areas.append((name, kind, attempt.auc.mean))
    says = f"ROC curves, {way.title}. Areas: " + "; ".join(f"{name} {area:.3f}" for name, _, area in areas) + "."
    guessing = f"{frame.left},{frame.base} {frame.end},{frame.top}"
    marks = tuple(Mark(round(frame.left + step / 4 * (frame.end - frame.left), 1), f"{25 * step}") for step in range(5))
    return Roc(Plot(way.title, frame, marks, ticks(frame, 1.0), guessing, tuple(lines), says), tuple(areas))
