"""The table of attempts: what was trained on and how, against networks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from withhold.evaluation.report.colours import Shade, shade
from withhold.evaluation.report.words import countermeasure, material, spread, top, uses_own_images
from withhold.evaluation.results import NOISE, ORIGINAL, PLAIN, RELEASED, Attempt, Evaluation, Spread

ON_RELEASE, OWN_IMAGES, CONTROLS, IN_PART = (
    "On the release",
    "With clean images of the competitor's own, which the verdict leaves out",
    "Controls",
    "On a set that is protected in part",
)


@dataclass(frozen=True, slots=True)
class Value:
    """One accuracy in the table: exact, as text, and its colour."""

    exact: float
    text: str
    shade: Shade


@dataclass(frozen=True, slots=True)
class Scale:
    """Which accuracies get the first and the last colour.

    Attributes:
        high_is_clean: Whether `high` is what the originals gave.
    """

    low: float
    high: float
    high_is_clean: bool

    @staticmethod
    def between(chance: float, clean: float | None) -> "Scale":
        """Reach from guessing to the originals, or to perfection where these are missing or taught nothing."""
        if clean is None or clean <= chance:
            return Scale(min(chance, 0.99), 1.0, high_is_clean=False)
        return Scale(chance, clean, high_is_clean=True)

    def value(self, accuracy: Spread) -> Value:
        """Colour an accuracy."""
        share = (accuracy.mean - self.low) / (self.high - self.low)
        return Value(accuracy.mean, spread(accuracy), shade(share))


def ramp() -> tuple[Shade, ...]:
    """Return the colours in even steps, for a legend."""
    return tuple(shade(step / 8) for step in range(9))


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One attempt in the table; without a last value every seed diverged, without a best one in its first epoch.

    Attributes:
        counted: Seeds that gave a trained network.
    """

    last: Value | None
    best: Value | None
    counted: int
    diverged: int
    strongest: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One way to train, by every network; None where it was not tried."""

    name: str
    says: str
    strongest: bool
    cells: tuple[HeatCell | None, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Heat:
    """The whole table.

    Attributes:
        low, high: Accuracies that get the first and the last colour.
        high_is_clean: Whether `high` is what the originals gave.
        scale: The colours in even steps, for a legend.
    """

    networks: tuple[str, ...]
    groups: tuple[Group, ...]
    low: float
    high: float
    high_is_clean: bool
    scale: tuple[Shade, ...]
    chance: Value


def heat(evaluation: Evaluation) -> Heat:
    """Arrange the attempts: on the release first, the strongest on top; controls and mixtures apart."""
    networks = tuple(dict.fromkeys(attempt.network for attempt in evaluation.attempts))
    clean = evaluation.verdict.clean
    scale = Scale.between(evaluation.chance, top(clean) if clean else None)
    ways: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in evaluation.attempts:
        ways.setdefault((attempt.material, attempt.countermeasure), []).append(attempt)
    strongest = evaluation.verdict.strongest
    titles = dict.fromkeys((ON_RELEASE, OWN_IMAGES, CONTROLS, IN_PART))
    kinds = [(title, [way for way in ways if _title(ways[way][0]) == title]) for title in titles]
    groups = tuple(
        Group(title, tuple(_row(ways[way], networks, scale, strongest) for way in _sorted(some, ways)))
        for title, some in kinds
        if some
    )
    chance = scale.value(Spread(evaluation.chance, None, 1))
    return Heat(networks, groups, scale.low, scale.high, scale.high_is_clean, ramp(), chance)


def _title(attempt: Attempt) -> str:
    if attempt.material in {ORIGINAL, NOISE}:
        return CONTROLS
    if attempt.material != RELEASED:
        return IN_PART
    return OWN_IMAGES if uses_own_images(attempt) else ON_RELEASE


def _sorted(ways: Iterable[tuple[str, str]], all_ways: dict[tuple[str, str], list[Attempt]]) -> list[tuple[str, str]]:
    """Sort by what the row's best network got; controls keep the order originals, noise; diverged rows come last."""

    def key(way: tuple[str, str]) -> tuple[int, float]:
        found = max((top(attempt) or 0.0 for attempt in all_ways[way] if attempt.best), default=-1.0)
        return ((ORIGINAL, NOISE).index(way[0]) if way[0] in {ORIGINAL, NOISE} else 0, -found)

    return sorted(ways, key=key)


def _row(attempts: Sequence[Attempt], networks: Sequence[str], scale: Scale, strongest: Attempt | None) -> Row:
    by_network = {attempt.network: attempt for attempt in attempts}
    first = attempts[0]
    cells = tuple(_cell(by_network.get(network), scale, strongest) for network in networks)
    return Row(row_name(first), first.says, any(cell is not None and cell.strongest for cell in cells), cells)


def row_name(attempt: Attempt) -> str:
    """Name a way to train within its group of the table, where the release goes without saying."""
    if attempt.material == RELEASED:
        return countermeasure(attempt.countermeasure)
    said = material(attempt.material)
    said = said.removeprefix("the ") if attempt.material in {ORIGINAL, NOISE} else said
    return said if attempt.countermeasure == PLAIN else f"{said}, {attempt.countermeasure}"


def _cell(attempt: Attempt | None, scale: Scale, strongest: Attempt | None) -> HeatCell | None:
    if attempt is None:
        return None
    last, best = (scale.value(found) if found else None for found in (attempt.last, attempt.best))
    counted = attempt.last.count if attempt.last else 0
    return HeatCell(last, best, counted, attempt.diverged, strongest=strongest is not None and same(attempt, strongest))


def same(one: Attempt, other: Attempt) -> bool:
    """Say whether two attempts are the same one."""
    return (one.material, one.countermeasure, one.network) == (other.material, other.countermeasure, other.network)
