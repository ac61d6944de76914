"""Accuracy after each epoch, as coordinates for small drawings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from withhold.evaluation.report.heat import row_name
from withhold.evaluation.report.words import percent, top, uses_own_images
from withhold.evaluation.results import NOISE, ORIGINAL, PLAIN, RELEASED, Attempt, Evaluation

STRONGEST = 5
TOPS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
LONGEST = 17


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a drawing's data lie, in its own units, and how much room the labels at the right have."""

    width: int
    height: int
    left: int
    right: int
    top: int = 10
    bottom: int = 26
    line: float = 13.0

    @property
    def end(self) -> int:
        """Return the x of the last epoch."""
        return self.width - self.right

    @property
    def base(self) -> int:
        """Return the y of no accuracy."""
        return self.height - self.bottom

    def height_of(self, accuracy: float, ceiling: float) -> float:
        """Return the y of an accuracy where the axis ends at `ceiling`."""
        return round(self.base - accuracy / ceiling * (self.base - self.top), 1)


LARGE = Frame(380, 290, 34, 124)
SMALL = Frame(240, 120, 30, 10, bottom=20)


@dataclass(frozen=True, slots=True)
class Curve:
    """What is drawn as one line: accuracies in [0, 1], under a name.

    Attributes:
        kind: `original`, `noise`, `plain`, `other` or `c1` to `c5`, which the page's style gives a colour.
    """

    name: str
    kind: str
    accuracies: Sequence[float]


@dataclass(slots=True)
class Line:
    """One curve.

    Attributes:
        kind: `original`, `noise`, `plain`, `other` or `c1` to `c5`, which the page's style gives a colour.
        points: For an SVG polyline.
        y: Of the curve's end.
        label_y: Of its label, moved so that labels do not meet.
    """

    name: str
    short: str
    kind: str
    points: str
    x: float
    y: float
    label_y: float
    last: str
    alone: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the accuracy axis."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing."""

    title: str
    frame: Frame
    epochs: int
    ticks: tuple[Tick, ...]
    chance_y: float
    lines: tuple[Line, ...]

    @property
    def says(self) -> str:
        """Describe the drawing for those who cannot see it."""
        ends = "; ".join(f"{line.name} {line.last} %" for line in self.lines)
        return f"Accuracy over {self.epochs} epochs, {self.title}. After the last epoch: {ends}."


@dataclass(frozen=True, slots=True)
class Curves:
    """Drawings of what matters, one for each network, and of the other attempts, one for each."""

    main: tuple[Panel, ...]
    rest: tuple[Panel, ...]


def curves(evaluation: Evaluation) -> Curves:
    """Lay out every curve: controls, undefended and the strongest five of each network together, the rest by itself."""
    drawn = [attempt for attempt in evaluation.attempts if attempt.curve]
    ceiling = ceiling_of([*(value for attempt in drawn for value in attempt.curve), evaluation.chance])
    main, rest = [], []
    for network in dict.fromkeys(attempt.network for attempt in drawn):
        own = [attempt for attempt in drawn if attempt.network == network]
        references = [_drawn(attempt, kind) for attempt in own if (kind := _reference(attempt))]
        others = [attempt for attempt in own if not _reference(attempt)]
        judged = [one for one in others if one.material == RELEASED and not uses_own_images(one)]
        on_release = sorted(judged, key=lambda one: -(top(one) or 0.0))
        chosen = on_release[:STRONGEST]
        coloured = [_drawn(attempt, f"c{number}") for number, attempt in enumerate(chosen, 1)]
        main.append(panel(network, LARGE, [*references, *coloured], ceiling, evaluation.chance))
        for attempt in [*on_release[STRONGEST:], *(one for one in others if one not in judged)]:
            title = f"{row_name(attempt)}, {network}"
            rest.append(panel(title, SMALL, [*references, _drawn(attempt, "c1")], ceiling, evaluation.chance))
    strongest = evaluation.verdict.strongest
    main.sort(key=lambda drawn: strongest is not None and drawn.title != strongest.network)
    return Curves(tuple(each for each in main if each.lines), tuple(rest))


def _reference(attempt: Attempt) -> str:
    if attempt.countermeasure != PLAIN:
        return ""
    return {ORIGINAL: "original", NOISE: "noise", RELEASED: "plain"}.get(attempt.material, "")


def ceiling_of(values: Iterable[float]) -> float:
    """Choose where the accuracy axis ends: a round number that no value exceeds."""
    highest = max(values)
    return next(step for step in TOPS if step >= min(highest, 1.0))


def _drawn(attempt: Attempt, kind: str) -> Curve:
    name = {"plain": "undefended", "noise": "random noise"}.get(kind) or row_name(attempt)
    return Curve(name, kind, attempt.curve)


def panel(title: str, frame: Frame, curves: Sequence[Curve], ceiling: float, chance: float) -> Panel:
    """Lay out one drawing of curves over epochs.

    Args:
        ceiling: Accuracy at which the axis ends.
    """
    epochs = max((len(curve.accuracies) for curve in curves), default=1)
    lines = [_line(curve, frame, epochs, ceiling) for curve in curves]
    part_labels(lines, frame)
    return Panel(title, frame, epochs, ticks(frame, ceiling), frame.height_of(chance, ceiling), tuple(lines))


def ticks(frame: Frame, ceiling: float) -> tuple[Tick, ...]:
    """Mark the accuracy axis in even steps."""
    count = 2 if frame is SMALL else 4
    steps = [step * ceiling / count for step in range(count + 1)]
    return tuple(Tick(frame.height_of(step, ceiling), f"{100 * step:g}") for step in steps)


def _line(curve: Curve, frame: Frame, epochs: int, ceiling: float) -> Line:
    span = max(epochs - 1, 1)
    places = [frame.left + number / span * (frame.end - frame.left) for number in range(len(curve.accuracies))]
    return line(curve, places, frame, ceiling)


def line(curve: Curve, places: Sequence[float], frame: Frame, ceiling: float) -> Line:
    """Draw a curve at given x, in the drawing's units."""
    heights = [frame.height_of(value, ceiling) for value in curve.accuracies]
    points = " ".join(f"{x:.1f},{y:g}" for x, y in zip(places, heights, strict=True))
    name, last = curve.name, percent(curve.accuracies[-1])
    short = name if len(name) <= LONGEST else name[: LONGEST - 1] + "\u2026"
    return Line(name, short, curve.kind, points, round(places[-1], 1), heights[-1], heights[-1], last, len(places) == 1)


def part_labels(lines: Sequence[Line], frame: Frame) -> None:
    """Move labels apart: downwards from the top one, then back up from the bottom of the drawing."""
    in_order = sorted(lines, key=lambda line: line.y)
    lowest = frame.top - frame.line
    for line in in_order:
        line.label_y = lowest = max(line.y, lowest + frame.line)
    highest = frame.base + frame.line
    for line in reversed(in_order):
        line.label_y = highest = round(min(line.label_y, highest - frame.line), 1)
