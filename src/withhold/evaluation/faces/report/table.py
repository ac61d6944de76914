"""The table of scenarios: what was recognised after training on the originals, on noise and on the release."""

from collections.abc import Sequence
from dataclasses import dataclass

from withhold.evaluation.faces.report.ways import PUBLISHED, Way
from withhold.evaluation.faces.results import STRANGER, FaceAttempt, FaceEvaluation, Finding
from withhold.evaluation.faces.scenarios.table import SCENARIOS
from withhold.evaluation.faces.verdict import CONTROL_OF
from withhold.evaluation.report.heat import Scale, Value
from withhold.evaluation.results import ORIGINAL
from withhold.evaluation.verdict import PARTIAL


@dataclass(frozen=True, slots=True)
class Cell:
    """What one loss recognised after one material.

    Attributes:
        best: None if every seed diverged before it recognised anything.
        taken: Whether the scenario's sentence is about it.
    """

    best: Value | None
    counted: int
    diverged: int
    taken: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One loss; a cell is None where it was not tried, with the reason in `absent`."""

    head: str
    network: str
    cells: tuple[Cell | None, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One scenario.

    Attributes:
        kept: See `Finding`; None also where the scenario is a control of another one.
        people: Among whom a probe is looked up.
    """

    scenario: str
    says: str
    rows: tuple[Row, ...]
    kept: float | None
    people: int


def blocks(evaluation: FaceEvaluation, ways: Sequence[Way]) -> tuple[Block, ...]:
    """Arrange the scenarios.

    Each has colours of its own, from guessing to what the originals give in it; a control has those of the scenario
    that it is to be read beside.
    """
    findings = {finding.scenario: finding for finding in evaluation.verdict.findings}
    grouped: dict[str, list[Way]] = {}
    for way in ways:
        grouped.setdefault(way.scenario, []).append(way)
    scales = {name: _scale(own) for name, own in grouped.items()}
    return tuple(
        _block(name, own, scales.get(CONTROL_OF.get(name, name), scales[name]), findings.get(name))
        for name, own in grouped.items()
    )


def _scale(ways: Sequence[Way]) -> Scale:
    clean = [way.attempts[ORIGINAL].best for way in ways if ORIGINAL in way.attempts]
    return Scale.between(ways[0].first.chance, max((best.mean for best in clean if best), default=None))


def _block(scenario: str, ways: Sequence[Way], scale: Scale, finding: Finding | None) -> Block:
    first = ways[0].first
    rows = tuple(_row(way, scale, finding) for way in ways)
    return Block(scenario, first.says, rows, finding.kept if finding else None, first.identities)


def _row(way: Way, scale: Scale, finding: Finding | None) -> Row:
    taken = (finding.released, finding.clean, finding.noise) if finding else ()
    cells = tuple(_cell(way.attempts.get(material), scale, taken) for material in PUBLISHED)
    applies = SCENARIOS[way.scenario].materials
    absent = tuple("not tried" if material in applies else "does not apply" for material in PUBLISHED)
    return Row(way.head, way.network, cells, absent)


def _cell(attempt: FaceAttempt | None, scale: Scale, taken: Sequence[FaceAttempt | None]) -> Cell | None:
    if attempt is None:
        return None
    best = scale.value(attempt.best) if attempt.best else None
    counted = attempt.best.count if attempt.best else 0
    return Cell(best, counted, attempt.diverged, taken=any(each is attempt for each in taken))


def state(finding: Finding) -> str:
    """Say in a word or two what a scenario showed.

    Of a stranger nothing is promised, so there is nothing that could hold.
    """
    if finding.kept is None:
        return "nothing follows"
    if finding.scenario == STRANGER:
        return "not stopped" if finding.holds is False else "not promised"
    if finding.holds:
        return "holds"
    return "does not hold" if finding.kept > 1 - PARTIAL else "holds in part"
