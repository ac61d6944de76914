"""ROC, AUC, equal error, LFW accuracy and true accepts against scikit-learn, brute force and closed forms."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from random import Random
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, roc_auc_score  # type: ignore[import-untyped]
from sklearn.metrics import roc_curve as sklearn_roc_curve

from withhold.errors import InvalidInput
from withhold.evaluation.faces.roc import Scores, area_under_curve, equal_error, roc_curve
from withhold.evaluation.faces.true_accepts import true_accepts
from withhold.evaluation.faces.verification import (
    check_folds,
    lfw_accuracy,
    measure_verification,
    stratified_folds,
)

Bools = npt.NDArray[np.bool_]


def drawn(seed: int, count: int = 200, *, gap: float = 1.0, levels: int | None = None) -> tuple[Scores, Bools]:
    """Draw normal scores, genuine ones higher by `gap`; with few levels most of them are tied."""
    generator = np.random.default_rng(seed)
    same = generator.random(count) < 0.4
    same[:2] = (True, False)
    scores = generator.normal(size=count) + gap * same
    return (np.round(scores * levels) / levels if levels else scores), same


@st.composite
def tied(draw: st.DrawFn, least: int = 2) -> tuple[Scores, Bools]:
    """Draw scores on a few levels, at least `least` pairs of each kind."""
    same = draw(hnp.arrays(bool, st.integers(2 * least, 40)))
    same[:least], same[least : 2 * least] = True, False
    return draw(hnp.arrays(float, len(same), elements=st.integers(-4, 4).map(float))), same


@pytest.mark.parametrize("levels", [None, 20, 3, 1])
@pytest.mark.parametrize("seed", range(4))
def test_curve_and_area_agree_with_scikit_learn(seed: int, levels: int | None) -> None:
    scores, same = drawn(seed, levels=levels)
    curve = roc_curve(scores, same)
    fpr, tpr, thresholds = sklearn_roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-15)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-15)
    assert curve.thresholds == (None, *thresholds[1:])
    assert area_under_curve(scores, same) == pytest.approx(roc_auc_score(same, scores), abs=1e-14)


@settings(deadline=None)
@given(tied())
def test_area_is_the_share_of_couples_in_order(data: tuple[Scores, Bools]) -> None:
    scores, same = data
    couples = scores[same][:, None] - scores[~same]
    assert area_under_curve(scores, same) == pytest.approx(((couples > 0) + (couples == 0) / 2).mean(), abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_a_thinned_curve_keeps_ends_points_and_area(seed: int) -> None:
    scores, same = drawn(seed, 5000)
    curve = roc_curve(scores, same)
    thin = curve.thinned(200)
    points = set(zip(curve.fpr, curve.tpr, curve.thresholds, strict=True))
    kept = list(zip(thin.fpr, thin.tpr, thin.thresholds, strict=True))
    assert 100 < len(kept) <= 200 < len(points)
    assert set(kept) <= points
    assert kept[0] == (0.0, 0.0, None)
    assert kept[-1][:2] == (1.0, 1.0)
    assert np.trapezoid(thin.tpr, thin.fpr) == pytest.approx(area_under_curve(scores, same), abs=1e-3)


def test_thinning_a_short_curve_drops_only_straight_runs() -> None:
    scores, same = drawn(0)
    thin = roc_curve(scores, same).thinned(10_000)
    assert len(thin.fpr) < len(scores)
    assert np.trapezoid(thin.tpr, thin.fpr) == pytest.approx(area_under_curve(scores, same), abs=1e-12)
    constant = roc_curve(np.zeros(3), np.array([True, False, True]))
    assert constant.thinned() == constant


def brute_equal_error(scores: Scores, same: Bools) -> tuple[float, float, float]:
    """Compute FVC2000's definition literally, with t1 and t2."""
    thresholds = [*np.unique(scores), math.inf]
    rates = {t: (float((scores[same] < t).mean()), float((scores[~same] >= t).mean())) for t in thresholds}
    first = max(t for t, (fnmr, fmr) in rates.items() if fnmr <= fmr + 1e-12)
    second = min(t for t, (fnmr, fmr) in rates.items() if fnmr >= fmr - 1e-12)
    fnmr, fmr = rates[first] if sum(rates[first]) <= sum(rates[second]) + 1e-12 else rates[second]
    return (fnmr + fmr) / 2, min(fnmr, fmr), max(fnmr, fmr)


@settings(deadline=None)
@given(tied())
def test_equal_error_is_that_of_fvc2000(data: tuple[Scores, Bools]) -> None:
    found = equal_error(*data)
    assert (found.rate, found.low, found.high) == pytest.approx(brute_equal_error(*data), abs=1e-12)


def test_equal_error_of_normal_scores_is_the_known_one() -> None:
    generator = np.random.default_rng(0)
    same = np.arange(40_000) < 20_000
    found = equal_error(generator.normal(size=40_000) + 2.0 * same, same)
    assert found.rate == pytest.approx(NormalDist().cdf(-1.0), abs=0.005)
    assert found.high - found.low < 1e-4


def test_perfect_scores() -> None:
    same = np.arange(60) % 3 == 0
    found = measure_verification(np.where(same, 0.8, 0.1), same)
    assert (found.genuine, found.impostors, found.auc) == (20, 40, 1.0)
    assert (found.lfw.mean, found.lfw.standard_error) == (1.0, 0.0)
    assert {fold.threshold for fold in found.lfw.folds} == {0.8}
    assert found.equal_error.rate == found.equal_error.high == 0.0
    assert [accepts.tar for accepts in found.true_accepts] == [1.0, 1.0, 1.0]
    assert [accepts.high for accepts in found.true_accepts] == [1.0, 1.0, 1.0]


def test_constant_scores_say_nothing() -> None:
    same = np.arange(100) < 30
    found = measure_verification(np.full(100, 0.25), same)
    assert found.auc == 0.5
    assert found.lfw.mean == pytest.approx(0.7)  # the share of the majority
    assert (found.equal_error.rate, found.equal_error.low, found.equal_error.high) == (0.5, 0.0, 1.0)
    assert [accepts.tar for accepts in found.true_accepts] == [0.0, 0.0, 0.0]
    assert measure_verification(np.full(100, 0.25), ~same).lfw.mean == pytest.approx(0.7)


def test_reversed_scores_are_worse_than_nothing() -> None:
    same = np.arange(60) % 2 == 0
    found = measure_verification(np.where(same, 0.1, 0.8), same)
    assert (found.auc, found.equal_error.rate) == (0.0, 1.0)
    assert found.lfw.mean == 0.5  # accepting nothing is the best threshold there is


def brute_accuracies(scores: Scores, same: Bools, folds: npt.NDArray[np.int64]) -> list[float]:
    """Try every threshold on the other folds, with scikit-learn's accuracy."""
    accuracies = []
    for fold in np.unique(folds):
        others = folds != fold
        thresholds = [math.inf, *np.unique(scores[others])[::-1]]
        best = max(thresholds, key=lambda t: np.count_nonzero((scores[others] >= t) == same[others]))
        accuracies.append(accuracy_score(same[~others], scores[~others] >= best))
    return accuracies


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_agrees_with_brute_force(seed: int, levels: int | None) -> None:
    scores, same = drawn(seed, levels=levels)
    folds = stratified_folds(same, seed=seed)
    found = lfw_accuracy(scores, same, folds)
    expected = brute_accuracies(scores, same, folds)
    assert [fold.accuracy for fold in found.folds] == pytest.approx(expected)
    assert found.mean == pytest.approx(np.mean(expected))
    deviation = math.sqrt(sum((value - np.mean(expected)) ** 2 for value in expected) / 9)
    assert found.standard_error == pytest.approx(deviation / math.sqrt(10))
    assert sum(fold.pairs for fold in found.folds) == len(same)


def test_a_fold_is_tested_at_the_threshold_of_the_others() -> None:
    # Fold 0 is separated at 0.9, fold 1 at 0.1: at the other's threshold each accepts everything or nothing.
    scores = np.array([0.95, 0.9, 0.8, 0.7, 0.2, 0.1, 0.05, 0.0])
    same = np.array([True, True, False, False] * 2)
    folds = np.repeat([0, 1], 4)
    found = lfw_accuracy(scores, same, folds)
    assert [(fold.threshold, fold.accuracy) for fold in found.folds] == [(0.1, 0.5), (0.9, 0.5)]
    on_the_tested_fold = [
        max(accuracy_score(same[folds == fold], scores[folds == fold] >= t) for t in scores) for fold in (0, 1)
    ]
    on_all = max(accuracy_score(same, scores >= t) for t in scores)
    assert found.mean < on_all < np.mean(on_the_tested_fold) == 1.0


def test_scores_without_meaning_give_no_better_than_chance() -> None:
    """A threshold chosen on the tested pairs would seem to work: 3 of 4 right where folds hold four pairs."""
    means: list[float] = []
    cheating: list[float] = []
    for seed in range(60):
        scores, same = np.random.default_rng(seed).normal(size=80), np.arange(80) % 2 == 0
        folds = stratified_folds(same, 20, seed=seed)
        means.append(lfw_accuracy(scores, same, folds).mean)
        cheating.extend(
            max(((scores[part] >= t) == same[part]).mean() for t in (*scores[part], math.inf))
            for part in (folds == number for number in range(20))
        )
    assert np.mean(means) == pytest.approx(0.5, abs=0.03)
    assert np.mean(cheating) > 0.7


def test_a_swapped_label_changes_every_measure() -> None:
    same = np.arange(200) % 2 == 0
    scores = np.where(same, 0.8, 0.1) + np.arange(200) * 1e-4
    folds = np.arange(200) // 20
    swapped = same.copy()
    swapped[50] = not swapped[50]
    before, after = (measure_verification(scores, labels, folds) for labels in (same, swapped))
    assert after.auc < before.auc == 1.0
    assert after.lfw.mean == pytest.approx(before.lfw.mean - 1 / 200)
    worse = np.subtract([f.accuracy for f in before.lfw.folds], [f.accuracy for f in after.lfw.folds])
    assert worse == pytest.approx(np.where(np.arange(10) == 2, 1 / 20, 0.0))  # in its own fold
    assert after.equal_error.high > before.equal_error.high == 0.0
    assert after.true_accepts[-1].tar < before.true_accepts[-1].tar == 1.0
    assert (after.genuine, after.impostors) == (99, 101)


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("change", [np.exp, lambda x: 5 * x - 3, lambda x: x**3])
def test_increasing_maps_of_the_scores_change_only_thresholds(
    change: Callable[[Scores], Scores], levels: int | None
) -> None:
    scores, same = drawn(5, levels=levels)
    one, other = measure_verification(scores, same), measure_verification(change(scores), same)
    assert (other.auc, other.equal_error) == (one.auc, one.equal_error)
    assert (other.roc.fpr, other.roc.tpr) == (one.roc.fpr, one.roc.tpr)
    assert [fold.accuracy for fold in other.lfw.folds] == [fold.accuracy for fold in one.lfw.folds]
    for after, before in zip(other.true_accepts, one.true_accepts, strict=True):
        assert before.threshold is not None
        assert after.threshold == change(np.array(before.threshold))
        assert (after.tar, after.low, after.high) == (before.tar, before.low, before.high)


@settings(deadline=None, max_examples=25)
@given(tied(least=3), st.randoms())
def test_the_order_of_the_pairs_does_not_matter(data: tuple[Scores, Bools], random: Random) -> None:
    scores, same = data
    folds = stratified_folds(same, 3)
    order = list(range(len(same)))
    random.shuffle(order)
    one = measure_verification(scores, same, folds)
    assert measure_verification(scores[order], same[order], folds[order]) == one


@settings(deadline=None, max_examples=50)
@given(tied(), st.floats(0.001, 0.999))
def test_true_accepts_by_brute_force(data: tuple[Scores, Bools], far: float) -> None:
    scores, same = data
    found = true_accepts(scores, same, far)
    operating = [
        (float((scores[same] >= t).mean()), float((scores[~same] >= t).mean())) for t in (*np.unique(scores), math.inf)
    ]
    assert found.tar == max(tar for tar, rate in operating if rate <= far)
    assert (found.tar, found.measured_far) in operating
    assert found.measured_far <= far
    assert found.low <= found.tar <= found.high
    assert found.resolvable == (np.count_nonzero(~same) * far >= 1)


def test_rates_that_are_whole_shares_are_not_lost_to_rounding() -> None:
    same = np.arange(200) < 100
    scores = np.where(same, 0.0, np.arange(200.0))
    assert 0.29 * 100 < 29
    assert true_accepts(scores, same, 0.29).measured_far == 0.29


def test_few_impostors_cannot_tell() -> None:
    same = np.arange(600) < 300
    scores = np.where(same, 1.0, 0.0)
    found = measure_verification(scores, same).true_accepts
    assert [accepts.resolvable for accepts in found] == [True, True, False]
    assert found[2].tar == 1.0
    assert (found[2].low, found[2].high) == (0.0, 1.0)
    assert found[0].low > 0.98


def test_intervals_hold_the_true_rate() -> None:
    """Intervals that take the threshold as known would miss it in half of the trials at 1e-2."""
    generator = np.random.default_rng(3)
    same = np.arange(542) < 271
    normal = NormalDist()
    for far in (1e-1, 1e-2, 1e-3):
        truth = 1 - normal.cdf(normal.inv_cdf(1 - far) - 2.5)
        held = fixed = 0
        for _ in range(150):
            scores = generator.normal(size=542) + 2.5 * same
            found = true_accepts(scores, same, far)
            held += found.low <= truth <= found.high
            margin = 1.96 * math.sqrt(max(found.tar * (1 - found.tar), 1e-9) / 271)
            fixed += abs(found.tar - truth) <= margin
        assert held >= 0.93 * 150
        assert fixed < 0.92 * 150


def test_intervals_depend_on_the_seed_only_a_little_and_shrink_with_pairs() -> None:
    scores, same = drawn(1, 400, gap=2.5)
    one, again, other = (true_accepts(scores, same, 0.1, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert other.low == pytest.approx(one.low, abs=0.02)
    more = true_accepts(*drawn(1, 40_000, gap=2.5), 0.1)
    assert more.high - more.low < (one.high - one.low) / 5


@settings(deadline=None)
@given(st.integers(10, 60), st.integers(10, 60), st.integers(2, 10), st.integers(0, 5))
def test_drawn_folds_hold_equal_shares_of_each_kind(genuine: int, impostors: int, count: int, seed: int) -> None:
    same = np.random.default_rng(seed).permutation(np.arange(genuine + impostors) < genuine)
    folds = stratified_folds(same, count, seed=seed)
    for kind in (True, False):
        sizes = np.bincount(folds[same == kind], minlength=count)
        assert sizes.max() - sizes.min() <= 1
        assert len(sizes) == count
    assert (stratified_folds(same, count, seed=seed) == folds).all()


def test_other_seeds_draw_other_folds() -> None:
    same = np.arange(40) % 2 == 0
    assert (stratified_folds(same, seed=0) != stratified_folds(same, seed=1)).any()


def test_values_are_plain_json() -> None:
    found = asdict(measure_verification(*drawn(0)))
    assert json.loads(json.dumps(found, allow_nan=False))["lfw"]["mean"] == found["lfw"]["mean"]


TWO = np.array([True, False])


@pytest.mark.parametrize(
    ("scores", "same", "told"),
    [
        (np.array([0.1, np.nan]), TWO, "1 of 2 scores are not finite"),
        (np.array([0.1, np.inf]), TWO, "not finite"),
        (np.zeros(3), TWO, r"got \(3,\) and \(2,\) bool"),
        (np.zeros(2), TWO.astype(np.int64), r"same \(n,\) bool, got .* int64"),
        (np.zeros((2, 1)), TWO, r"got \(2, 1\)"),
        (np.zeros(2), np.array([True, True]), "2 of one person .* and 0 of two"),
        (np.zeros(0), np.zeros(0, bool), "0 of one person"),
    ],
)
def test_scores_that_give_no_rates_are_refused(scores: Scores, same: Bools, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        measure_verification(scores, same)


def test_folds_that_no_threshold_can_be_chosen_on_are_refused() -> None:
    same = np.array([True, True, False, False])
    with pytest.raises(InvalidInput, match="at least 2 folds"):
        check_folds(same, np.zeros(4, np.int64))
    with pytest.raises(InvalidInput, match="each of 4 pairs"):
        check_folds(same, np.zeros(3, np.int64))
    with pytest.raises(InvalidInput, match="outside of fold 7 are of one kind"):
        lfw_accuracy(np.zeros(4), same, np.array([7, 7, 7, 5]))
    with pytest.raises(InvalidInput, match="10 folds, 2 pairs of one person and 2 of two; add pairs"):
        measure_verification(np.zeros(4), same)
    check_folds(same, np.array([0, 1, 0, 1]))


@pytest.mark.parametrize("far", [0.0, 1.0, -0.1, math.nan])
def test_false_accept_rates_out_of_range_are_refused(far: float) -> None:
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        true_accepts(np.zeros(2), TWO, far)
