"""The report of faces: what the page says, as values for its template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from withhold.evaluation.faces.report.plots import crowds, rocs, training_curves
from withhold.evaluation.faces.report.sheet import sheet
from withhold.evaluation.faces.report.table import blocks, state
from withhold.evaluation.faces.report.verification import verifications
from withhold.evaluation.faces.report.ways import PUBLISHED, Way, drawn_ways, ways_of
from withhold.evaluation.faces.results import (
    ALONE,
    STRANGER,
    UNTRAINED,
    FaceAttempt,
    FaceEvaluation,
    Finding,
)
from withhold.evaluation.faces.scenarios.table import SCENARIOS, sentence
from withhold.evaluation.faces.verdict import CONTROL_OF
from withhold.evaluation.report import words
from withhold.evaluation.report.frame import render_page
from withhold.evaluation.report.heat import ramp
from withhold.evaluation.report.histogram import alike
from withhold.evaluation.report.marks import Mark, guessing, mark
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED

HERE = Path(__file__).parent
Drawing = TypeVar("Drawing")


def render(evaluation: FaceEvaluation) -> str:
    """Draw the page; equal evaluations give equal pages."""
    return render_page(HERE, _content(evaluation))


def _content(evaluation: FaceEvaluation) -> dict[str, Any]:
    ways = ways_of(evaluation)
    drawn = drawn_ways(ways)
    verdict = evaluation.verdict
    tried = {way.scenario: way.says for way in ways}
    return {
        "evaluation": evaluation,
        "verdict": verdict,
        "marks": _marks(evaluation),
        "limits": _limits(verdict.findings),
        "blocks": blocks(evaluation, ways),
        "ramp": ramp(),
        "findings": [(finding, state(finding)) for finding in verdict.findings],
        "controls": [(name, CONTROL_OF[name], says) for name, says in tried.items() if name in CONTROL_OF],
        "published": PUBLISHED,
        "ways": ways,
        "counts": _counts,
        "crowds": _folded(crowds(drawn), drawn),
        "verified": verifications(ways),
        "rocs": _folded(rocs(drawn), drawn),
        "curves": _folded(training_curves(drawn), drawn),
        "sheet": sheet(evaluation.pictures),
        "alike": alike(evaluation.quality),
        "facts": [
            ("Settings", words.flat(evaluation.settings)),
            ("Data", words.flat(evaluation.data)),
            ("Environment", words.flat(evaluation.environment)),
        ],
    }


def _marks(evaluation: FaceEvaluation) -> list[Mark]:
    """List what training on the release alone gave, with its controls; nothing if that was not tried."""
    alone = next((finding for finding in evaluation.verdict.findings if finding.scenario == ALONE), None)
    if alone is None:
        return []
    rows: list[tuple[str, str, str, FaceAttempt | None]] = [
        ("Trained on the originals", "original", ORIGINAL, alone.clean),
        ("Originals under random noise", "noise", NOISE, alone.noise),
        ("Trained on the release", "strongest", RELEASED, alone.released),
    ]
    tried = {attempt.material for attempt in evaluation.attempts if attempt.scenario == ALONE}
    marks = [_mark(title, kind, attempt) for title, kind, material, attempt in rows if material in tried]
    marks += [
        mark("Not trained at all", "random weights, the release as gallery", "other", attempt.best, attempt.rank1)
        for attempt in evaluation.attempts
        if (attempt.scenario, attempt.material) == (UNTRAINED, RELEASED)
    ][:1]
    return [*marks, guessing("any of the people", evaluation.chance)]


def _mark(title: str, kind: str, attempt: FaceAttempt | None) -> Mark:
    if attempt is None:
        return mark(title, "every training", kind, None, None)
    return mark(title, f"{attempt.head}, {attempt.network}", kind, attempt.best, attempt.rank1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the protection does not stop.

    Attributes:
        stranger: What is known of a recogniser that never trained on these people; None if it was not tried.
        broken: Other scenarios in which the protection does not hold, or in part only.
        unknown: Scenarios from which nothing follows.
        untried: What was not tried: name, and what it is.
    """

    stranger: Finding | None
    broken: tuple[Finding, ...]
    unknown: tuple[Finding, ...]
    untried: tuple[tuple[str, str], ...]


def _limits(findings: Sequence[Finding]) -> Limits:
    others = [finding for finding in findings if finding.scenario not in {ALONE, STRANGER}]
    tried = {finding.scenario for finding in findings} | {STRANGER, *CONTROL_OF}
    return Limits(
        stranger=next((finding for finding in findings if finding.scenario == STRANGER), None),
        broken=tuple(finding for finding in others if finding.holds is False),
        unknown=tuple(finding for finding in others if finding.holds is None),
        untried=tuple((name, sentence(name)) for name in SCENARIOS if name not in tried),
    )


@dataclass(frozen=True, slots=True)
class Folded(Generic[Drawing]):
    """Drawings that are shown at once, and those that are folded away."""

    main: tuple[Drawing, ...]
    rest: tuple[Drawing, ...]


def _folded(drawings: Mapping[str, Drawing], ways: Sequence[Way]) -> Folded[Drawing]:
    shown = [way for way in ways if way.title in drawings]
    return Folded(
        tuple(drawings[way.title] for way in shown if way.main),
        tuple(drawings[way.title] for way in shown if not way.main),
    )


def _counts(attempt: FaceAttempt) -> tuple[int, int] | None:
    """Return how many pictures were enrolled and looked up; None if every training diverged."""
    found = [result.identification for result in attempt.results if result.identification]
    return (found[0].enrolled, found[0].probes) if found else None
