"""What a threshold on scores accepts and rejects: ROC curve, its area, and the equal error rate.

A pair is accepted if its score is at least the threshold. Pairs of equal score are accepted together, so no result
depends on the order of the pairs, and none is better than what some threshold reaches. Genuine pairs show one person,
impostor pairs two. Only the order of the scores counts; any increasing map of them gives the same rates.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from withhold.errors import InvalidInput

Scores = npt.NDArray[np.floating]
Same = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Receiver operating characteristic: one point for each threshold, from accepting nothing to accepting all.

    Attributes:
        fpr: Share of the impostor pairs that is accepted (false accept rate), in [0, 1], never falling.
        tpr: Share of the genuine pairs that is accepted (true accept rate), in [0, 1], never falling.
        thresholds: Scores, strictly falling; the first is None and accepts nothing.
    """

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    thresholds: tuple[float | None, ...]

    def thinned(self, most: int = 200) -> "RocCurve":
        """Keep at most `most` (at least 2) of the points for a drawing, both ends among them.

        First go points on a straight line between their neighbours, then points that lie close along the curve.
        """
        fpr, tpr = np.array(self.fpr), np.array(self.tpr)
        kept = _corners(fpr, tpr)
        if len(kept) > most:
            length = (fpr + tpr)[kept]  # of a way that goes right and up only
            nearest = np.searchsorted(length, np.linspace(0.0, length[-1], most))
            kept = kept[np.unique(nearest.clip(max=len(kept) - 1))]
        return RocCurve(
            tuple(self.fpr[i] for i in kept),
            tuple(self.tpr[i] for i in kept),
            tuple(self.thresholds[i] for i in kept),
        )


@dataclass(frozen=True, slots=True)
class EqualError:
    """Where as many genuine pairs are rejected as impostor pairs are accepted, as shares.

    Often no threshold makes the two rates equal. As in FVC2000 (Maio et al., PAMI 24, 2002) they are then given at the
    threshold beside the crossing where their sum is smaller, and the equal error rate is their mean.

    Attributes:
        rate: In [0, 1]; 0.5 for scores that say nothing.
        low: The smaller of the two rates.
        high: The larger one: the conservative value, which a threshold reaches. Constant scores have low 0 and high 1.
    """

    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """Pairs accepted at each threshold, as counts, from none to all.

    Attributes:
        thresholds: (k + 1,) infinity, then the k distinct scores, falling.
        genuine: (k + 1,) accepted genuine pairs; the last is their number.
        impostors: (k + 1,) accepted impostor pairs; the last is their number.
    """

    thresholds: npt.NDArray[np.float64]
    genuine: Integers
    impostors: Integers


def check_scores(scores: Scores, same: Same) -> None:
    """Refuse what no rate can be computed from.

    Args:
        scores: (n,) finite.
        same: (n,) bool, true for genuine pairs; both kinds must be there.

    Raises:
        InvalidInput: Another shape or type, a score that is not finite, or pairs of one kind only.
    """
    if scores.ndim != 1 or scores.shape != same.shape or same.dtype != np.bool_:
        msg = (
            f"expected scores (n,) and same (n,) bool, got {scores.shape} and {same.shape} {same.dtype}; give one "
            "score for each pair"
        )
        raise InvalidInput(msg)
    if wrong := int(np.count_nonzero(~np.isfinite(scores))):
        msg = f"{wrong} of {len(scores)} scores are not finite; check the recogniser's embeddings"
        raise InvalidInput(msg)
    check_kinds(same)


def check_kinds(same: Same) -> None:
    """Refuse pairs of one kind only.

    Raises:
        InvalidInput: Says how many of each kind there are.
    """
    genuine = int(np.count_nonzero(same))
    if not 0 < genuine < len(same):
        msg = (
            f"expected pairs of one person and pairs of two, got {genuine} of one person (same = 1) and "
            f"{len(same) - genuine} of two (same = 0); verification needs both"
        )
        raise InvalidInput(msg)


def count_accepted(scores: Scores, same: Same) -> Accepted:
    """Count what each threshold accepts.

    Args:
        scores: (n,).
        same: (n,), true for genuine pairs.
    """
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    falling = scores[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)  # of each group of equal scores
    genuine = np.cumsum(same[order], dtype=np.int64)[last]
    return Accepted(
        np.append(np.inf, falling[last]), np.append(0, genuine), np.append(0, last + 1 - genuine).astype(np.int64)
    )


def roc_curve(scores: Scores, same: Same) -> RocCurve:
    """Compute the ROC curve with a point for every distinct score.

    Args:
        scores: (n,), higher for pairs that look alike, such as cosines.
        same: (n,) bool, true for genuine pairs.

    Raises:
        InvalidInput: See `check_scores`.

    >>> roc_curve(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]))
    RocCurve(fpr=(0.0, 0.0, 1.0), tpr=(0.0, 0.5, 1.0), thresholds=(None, 0.9, 0.5))
    """
    check_scores(scores, same)
    found = count_accepted(scores, same)
    return RocCurve(
        tuple((found.impostors / found.impostors[-1]).tolist()),
        tuple((found.genuine / found.genuine[-1]).tolist()),
        tuple(map(finite_threshold, found.thresholds)),
    )


def area_under_curve(scores: Scores, same: Same) -> float:
    """Compute the area under the ROC curve, in [0, 1]: 1 is perfect, 0.5 says nothing.

    It is the share of all (genuine, impostor) couples in which the genuine pair scores higher; equal scores count half
    (Mann and Whitney 1947).

    Raises:
        InvalidInput: See `check_scores`.
    """
    check_scores(scores, same)
    found = count_accepted(scores, same)
    # Twice the area, in whole numbers, so that the sum is exact.
    twice = int(np.sum(np.diff(found.impostors) * (found.genuine[1:] + found.genuine[:-1])))
    return twice / (2 * int(found.genuine[-1]) * int(found.impostors[-1]))


def equal_error(scores: Scores, same: Same) -> EqualError:
    """Compute the equal error rate.

    Raises:
        InvalidInput: See `check_scores`.
    """
    check_scores(scores, same)
    found = count_accepted(scores, same)
    genuine, impostors = int(found.genuine[-1]), int(found.impostors[-1])
    # Both rates times both counts are whole numbers, which compare exactly.
    rejects, accepts = (genuine - found.genuine) * impostors, found.impostors * genuine
    beside = (int(np.flatnonzero(rejects <= accepts)[0]), int(np.flatnonzero(rejects >= accepts)[-1]))
    chosen = min(beside, key=lambda index: int(rejects[index] + accepts[index]))
    low, high = sorted((int(rejects[chosen]), int(accepts[chosen])))
    whole = genuine * impostors
    return EqualError((low + high) / (2 * whole), low / whole, high / whole)


def finite_threshold(threshold: float) -> float | None:
    """Write a threshold as JSON can hold it: None for infinity, which accepts nothing."""
    return float(threshold) if math.isfinite(threshold) else None


def _corners(fpr: npt.NDArray[np.float64], tpr: npt.NDArray[np.float64]) -> Integers:
    """Find the points where a curve turns, and its ends; steps straight up or straight right are what it is made of."""
    right, up = np.diff(fpr) > 0, np.diff(tpr) > 0
    straight = ((~right[1:] & ~right[:-1]) | (~up[1:] & ~up[:-1])) if len(fpr) > 1 else np.zeros(0, bool)
    return np.flatnonzero(np.concatenate([[True], ~straight, [True]]))
