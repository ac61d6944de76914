from dataclasses import replace
from itertools import pairwise

import pytest
from tests.evaluation.report.samples import evaluation

from withhold.evaluation.report.curves import LARGE, SMALL, Panel, curves
from withhold.evaluation.results import Evaluation


@pytest.fixture(scope="module")
def whole() -> Evaluation:
    return evaluation()


def panel(whole: Evaluation, network: str) -> Panel:
    return next(each for each in curves(whole).main if each.title == network)


def test_each_network_shows_controls_undefended_and_the_strongest_five(whole: Evaluation) -> None:
    names = [line.name for line in panel(whole, "resnet18").lines]
    assert names[:3] == ["originals", "random noise", "undefended"]
    assert names[3:] == ["jpeg-10", "adversarial-training-8", "early-stopping", "jpeg-50", "bits-2"]


def test_every_attempt_that_has_a_curve_is_drawn_once(whole: Evaluation) -> None:
    drawn = curves(whole)
    colours = [line.kind for each in (*drawn.main, *drawn.rest) for line in each.lines if line.kind.startswith("c")]
    undefended_and_controls = 3 * 3
    assert len(colours) + undefended_and_controls == sum(bool(attempt.curve) for attempt in whole.attempts)


def test_points_are_the_accuracies_on_the_axis(whole: Evaluation) -> None:
    line = next(each for each in panel(whole, "resnet18").lines if each.name == "jpeg-10")
    attempt = whole.verdict.strongest
    assert attempt is not None
    points = [tuple(map(float, point.split(","))) for point in line.points.split()]
    assert points[0][0] == LARGE.left
    assert points[-1][0] == LARGE.end
    for (_, y), accuracy in zip(points, attempt.curve, strict=True):
        assert (LARGE.base - y) / (LARGE.base - LARGE.top) == pytest.approx(accuracy, abs=1e-3)


def test_labels_do_not_meet_and_stay_inside(whole: Evaluation) -> None:
    for each in curves(whole).main:
        heights = sorted(line.label_y for line in each.lines)
        assert min(b - a for a, b in pairwise(heights)) >= LARGE.line - 0.2
        assert heights[-1] <= LARGE.base


def test_a_low_evaluation_fills_its_axis(whole: Evaluation) -> None:
    low = tuple(replace(attempt, curve=tuple(value / 10 for value in attempt.curve)) for attempt in whole.attempts)
    ticks = curves(replace(whole, attempts=low, chance=0.01)).main[0].ticks
    assert [tick.text for tick in ticks] == ["0", "2.5", "5", "7.5", "10"]


def test_a_single_epoch_is_a_dot(whole: Evaluation) -> None:
    short = tuple(replace(attempt, curve=attempt.curve[:1]) for attempt in whole.attempts)
    drawn = curves(replace(whole, attempts=short))
    assert all(line.alone for line in drawn.main[0].lines)
    assert all(each.frame is SMALL for each in drawn.rest)


def test_without_any_curve_nothing_is_drawn(whole: Evaluation) -> None:
    none = curves(replace(whole, attempts=tuple(replace(attempt, curve=()) for attempt in whole.attempts)))
    assert not none.main
    assert not none.rest
