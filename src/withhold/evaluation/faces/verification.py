"""Verification: do two pictures show one person? Accuracy as LFW measures it, and true accepts at few false ones.

Sources: Huang et al., Labeled Faces in the Wild, Technical Report 07-49, University of Massachusetts, 2007;
Learned-Miller et al., Labeled Faces in the Wild: A Survey, 2016. A pair is accepted if its score is at least the
threshold; pairs of equal score are accepted or rejected together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from withhold.errors import InvalidInput
from withhold.evaluation.faces.roc import (
    EqualError,
    Integers,
    RocCurve,
    Same,
    Scores,
    area_under_curve,
    check_kinds,
    check_scores,
    count_accepted,
    equal_error,
    finite_threshold,
    roc_curve,
)
from withhold.evaluation.faces.true_accepts import TrueAccepts, true_accepts
from withhold.seeds import derive_seed

FOLDS = 10
"""Folds of LFW's View 2."""

FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3)


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold, tested at the threshold that was best on all others.

    Attributes:
        pairs: In the fold.
        threshold: A score; None accepts nothing.
        accuracy: Share of the fold's pairs that are accepted or rejected rightly, in [0, 1].
    """

    pairs: int
    threshold: float | None
    accuracy: float


@dataclass(frozen=True, slots=True)
class LfwAccuracy:
    """Verification accuracy over the folds.

    Attributes:
        mean: Of the folds' accuracies, in [0, 1].
        standard_error: Of that mean, `sd / sqrt(k)` over k folds with the sample deviation sd (Huang et al. 2007).
            Folds share most of what their thresholds were chosen on, so it is a little too small.
        folds: In the order of their numbers.
    """

    mean: float
    standard_error: float
    folds: tuple[Fold, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """How well a recogniser tells pairs of one person from pairs of two.

    Attributes:
        genuine: Pairs of one person.
        impostors: Pairs of two.
        lfw: Accuracy with the threshold chosen on the other folds.
        auc: Area under the ROC curve, in [0, 1].
        equal_error: Where both kinds of error are equally frequent.
        true_accepts: One for each false accept rate asked for.
        roc: The whole curve; `roc.thinned()` for a drawing.
    """

    genuine: int
    impostors: int
    lfw: LfwAccuracy
    auc: float
    equal_error: EqualError
    true_accepts: tuple[TrueAccepts, ...]
    roc: RocCurve


def measure_verification(
    scores: Scores,
    same: Same,
    folds: Integers | None = None,
    *,
    rates: Sequence[float] = FALSE_ACCEPT_RATES,
    seed: int = 0,
) -> Verification:
    """Measure everything about verification.

    Args:
        scores: (n,), higher for pairs that look alike, such as cosines in [-1, 1].
        same: (n,) bool, true for pairs of one person.
        folds: (n,) number of each pair's fold; drawn by `stratified_folds` if absent.
        rates: False accept rates in (0, 1).
        seed: Of the folds, if drawn, and of the confidence intervals.

    Raises:
        InvalidInput: See `check_scores` and `check_folds`.
    """
    check_scores(scores, same)
    numbers = stratified_folds(same, seed=seed) if folds is None else folds
    genuine = int(np.count_nonzero(same))
    return Verification(
        genuine=genuine,
        impostors=len(same) - genuine,
        lfw=lfw_accuracy(scores, same, numbers),
        auc=area_under_curve(scores, same),
        equal_error=equal_error(scores, same),
        true_accepts=tuple(true_accepts(scores, same, rate, seed=seed) for rate in rates),
        roc=roc_curve(scores, same),
    )


def stratified_folds(same: Same, count: int = FOLDS, *, seed: int = 0) -> Integers:
    """Draw folds that hold equal numbers of each kind of pair, as far as these can be divided.

    LFW's own folds have no person in common. Drawn ones may, which matters little to a single threshold; give the
    folds where the pairs come with some.

    Args:
        same: (n,) bool.
        count: Of folds, at least 2.

    Returns:
        (n,) the fold of each pair, in [0, count).

    Raises:
        InvalidInput: Fewer pairs of a kind than folds.
    """
    check_divisible(same, count)
    numbers = np.empty(len(same), np.int64)
    generator = np.random.default_rng(derive_seed(seed, "folds"))
    for kind in (True, False):
        rows = generator.permutation(np.flatnonzero(same == kind))
        numbers[rows] = np.arange(len(rows)) % count
    return numbers


def check_divisible(same: Same, count: int) -> None:
    """Refuse pairs that `stratified_folds` cannot divide.

    Raises:
        InvalidInput: Fewer than two folds, or fewer pairs of a kind than folds.
    """
    check_kinds(same)
    genuine = int(np.count_nonzero(same))
    if count < 2 or min(genuine, len(same) - genuine) < count:  # noqa: PLR2004 - one to test, one to choose on
        msg = (
            f"expected at least 2 folds and as many pairs of each kind as folds, got {count} folds, {genuine} pairs of "
            f"one person and {len(same) - genuine} of two; add pairs, or give fewer folds in a column `fold`"
        )
        raise InvalidInput(msg)


def check_folds(same: Same, folds: Integers) -> None:
    """Refuse folds that no threshold can be chosen on.

    Args:
        same: (n,) bool.
        folds: (n,) integer.

    Raises:
        InvalidInput: Another shape, fewer than two folds, or only one kind of pair outside some fold.
    """
    numbers = np.unique(folds)
    if folds.shape != same.shape or len(numbers) < 2:  # noqa: PLR2004 - one to test, one to choose on
        msg = f"expected the fold of each of {len(same)} pairs and at least 2 folds, got {folds.shape}, {len(numbers)}"
        raise InvalidInput(msg)
    for number in numbers:
        others = same[folds != number]
        if others.all() or not others.any():
            msg = f"all pairs outside of fold {number} are of one kind, so no threshold can be chosen; divide them anew"
            raise InvalidInput(msg)


def lfw_accuracy(scores: Scores, same: Same, folds: Integers) -> LfwAccuracy:
    """Measure accuracy with thresholds that the tested pairs had no part in.

    Each fold is tested at the score that is the best threshold on all other folds together (Huang et al. 2007, View 2).
    Of several equally good ones the highest counts: it accepts fewest. It is a score of the other folds, so that
    increasing maps of the scores change nothing. Even scores that separate both kinds perfectly may therefore lose a
    genuine pair, where one scores lower than those of all other folds.

    Args:
        scores: (n,).
        same: (n,) bool.
        folds: (n,) number of each pair's fold.

    Raises:
        InvalidInput: See `check_scores` and `check_folds`.
    """
    check_scores(scores, same)
    check_folds(same, folds)
    tested = tuple(_tested(scores, same, folds == number) for number in np.unique(folds))
    accuracies = np.array([fold.accuracy for fold in tested])
    return LfwAccuracy(float(accuracies.mean()), float(accuracies.std(ddof=1)) / math.sqrt(len(tested)), tested)


def _tested(scores: Scores, same: Same, inside: Same) -> Fold:
    threshold = _best_threshold(scores[~inside], same[~inside])
    right = (scores[inside] >= threshold) == same[inside]
    return Fold(len(right), finite_threshold(threshold), float(right.mean()))


def _best_threshold(scores: Scores, same: Same) -> float:
    """Find the highest of the thresholds with the most right answers; infinity accepts nothing."""
    found = count_accepted(scores, same)
    return float(found.thresholds[np.argmax(found.genuine - found.impostors)])
