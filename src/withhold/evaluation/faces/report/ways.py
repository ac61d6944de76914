"""What was tried, arranged for a reader: one way for each scenario, loss and network, with what it got from whom."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from withhold.evaluation.faces.results import (
    ALONE,
    OLD_ALONE,
    UNTRAINED,
    FaceAttempt,
    FaceEvaluation,
    Finding,
)
from withhold.evaluation.faces.verdict import CONTROL_OF
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED

PUBLISHED = {ORIGINAL: "originals", NOISE: "random noise", RELEASED: "release"}
"""Material -> its name on the page."""

KINDS = {ORIGINAL: "original", NOISE: "noise", RELEASED: "c1"}
"""Material -> the kind of its line, which the page's style gives a colour."""

BESIDE = {OLD_ALONE: ("older alone", "c5", ORIGINAL), UNTRAINED: ("untrained", "c3", RELEASED)}
"""Control that is drawn beside what it controls -> name and kind of its line, and the material."""

Key = tuple[str, str, str]
Line = tuple[str, str, FaceAttempt]
"""Name, kind and attempt."""


@dataclass(frozen=True, slots=True)
class Way:
    """A scenario with one loss and network.

    Attributes:
        attempts: Material -> attempt, in the order of `PUBLISHED`.
        beside: Controls that the scenario is to be read beside, as they are drawn.
        title: Its name, with the network only where there are several.
        main: Whether it is shown at once, and not folded away: training on the release alone, and of any other
            scenario the loss that its sentence is about.
    """

    scenario: str
    head: str
    network: str
    says: str
    attempts: dict[str, FaceAttempt]
    beside: tuple[Line, ...]
    title: str
    main: bool

    @property
    def first(self) -> FaceAttempt:
        """Return any of its attempts, for what they have in common."""
        return next(iter(self.attempts.values()))

    @property
    def trainings(self) -> int:
        """Count its results."""
        return sum(len(attempt.results) for attempt in self.attempts.values())

    @property
    def lines(self) -> tuple[Line, ...]:
        """List what is drawn."""
        own = ((PUBLISHED[material], KINDS[material], attempt) for material, attempt in self.attempts.items())
        return (*own, *self.beside)


def ways_of(evaluation: FaceEvaluation) -> tuple[Way, ...]:
    """Arrange the attempts, in their order."""
    groups: dict[Key, dict[str, FaceAttempt]] = {}
    for attempt in evaluation.attempts:
        groups.setdefault(_key(attempt), {})[attempt.material] = attempt
    shown = _shown(evaluation)
    several = len({network for _, _, network in groups}) > 1
    return tuple(
        Way(
            *key,
            says=next(iter(found.values())).says,
            attempts={material: found[material] for material in PUBLISHED if material in found},
            beside=tuple(_beside(key, groups)),
            title=", ".join(key if several else key[:2]),
            main=key[0] == ALONE or key in shown,
        )
        for key, found in groups.items()
    )


def _beside(key: Key, groups: Mapping[Key, Mapping[str, FaceAttempt]]) -> Iterator[Line]:
    scenario, *rest = key
    for control, (name, kind, material) in BESIDE.items():
        # Weights that nobody trained do not depend on the loss; other controls are compared with the same loss only.
        found = [
            attempts[material]
            for (other, *its), attempts in groups.items()
            if other == control and material in attempts and (its == rest or control == UNTRAINED)
        ]
        if CONTROL_OF[control] == scenario and found:
            yield name, kind, found[0]


def drawn_ways(ways: Sequence[Way]) -> tuple[Way, ...]:
    """Leave out ways that are a line in the drawing of another one."""
    beside = {_key(attempt) for way in ways for _, _, attempt in way.beside}
    return tuple(way for way in ways if _key(way.first) not in beside)


def _key(attempt: FaceAttempt) -> Key:
    return attempt.scenario, attempt.head, attempt.network


def _shown(evaluation: FaceEvaluation) -> set[Key]:
    return {_key(taken) for finding in evaluation.verdict.findings if (taken := taken_of(finding)) is not None}


def taken_of(finding: Finding) -> FaceAttempt | None:
    """Return the attempt that the finding's sentence is about."""
    return finding.released or finding.clean or finding.noise
