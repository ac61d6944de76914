"""The true accept rate where few impostors are accepted: TAR at FAR, with its confidence interval."""

import math
from dataclasses import dataclass

import numpy as np

from withhold.errors import InvalidInput
from withhold.evaluation.faces.roc import Same, Scores, check_scores, count_accepted, finite_threshold
from withhold.seeds import derive_seed

CONFIDENCE = 0.95

_DRAWS = 10_000
_ROUNDING = 1e-9  # 0.29 * 100 is a hair below 29


@dataclass(frozen=True, slots=True)
class TrueAccepts:
    """The true accept rate where few impostors are accepted (TAR at FAR).

    Attributes:
        far: The false accept rate asked for.
        tar: Share of the genuine pairs that is accepted, in [0, 1], at the lowest threshold that accepts no larger
            share of the impostor pairs than `far`.
        low: Lower end of the 95 % confidence interval of `tar`.
        high: Upper end.
        threshold: A score; None accepts nothing.
        measured_far: Share of the impostor pairs accepted there; smaller than `far` where no threshold gives just that.
        resolvable: False with fewer than 1/far impostor pairs. `tar` is then what is accepted without a single false
            accept, whatever the false accept rate there may be. Even beyond that `low` is 0 up to about 3.7/far
            impostor pairs, as the true threshold may be above all of them.
    """

    far: float
    tar: float
    low: float
    high: float
    threshold: float | None
    measured_far: float
    resolvable: bool


def true_accepts(scores: Scores, same: Same, far: float, *, seed: int = 0) -> TrueAccepts:
    """Measure the true accept rate at a false accept rate, with its 95 % confidence interval.

    Two things are uncertain: the threshold, which the impostors decide, and the rate at it, which the genuine pairs do.
    An interval for the second alone (Wilson, Clopper-Pearson) misses the true rate far too often, up to half the time
    at 1e-2 with 271 impostors. The bootstrap knows both, but no threshold above the highest impostor, and fails where
    impostors are few. Here the number of impostors above the true threshold is drawn, which is Binomial(n, far) for n
    impostors. The true threshold then lies between two neighbouring impostors. The lower end of the interval takes the
    upper of these and the upper end the lower one, and the rate there is drawn from the Beta distribution whose
    quantile is that end of Clopper and Pearson's interval (1934). In trials with normal scores it held the true rate in
    about 95 % of cases or more. Pairs that share people or pictures are not independent, which makes it too narrow.

    Args:
        scores: (n,).
        same: (n,) bool.
        far: In (0, 1).
        seed: Of the drawing.

    Raises:
        InvalidInput: See `check_scores`; or `far` is not in (0, 1).
    """
    check_scores(scores, same)
    if not 0 < far < 1:
        msg = f"expected a false accept rate between 0 and 1, such as 1e-2, got {far}"
        raise InvalidInput(msg)
    found = count_accepted(scores, same)
    genuine, impostors = int(found.genuine[-1]), int(found.impostors[-1])
    allowed = math.floor(far * impostors + _ROUNDING)
    index = int(np.flatnonzero(found.impostors <= allowed)[-1])
    low, high = _interval(scores[same], scores[~same], far, seed)
    return TrueAccepts(
        far=far,
        tar=int(found.genuine[index]) / genuine,
        low=low,
        high=high,
        threshold=finite_threshold(found.thresholds[index]),
        measured_far=int(found.impostors[index]) / impostors,
        resolvable=allowed >= 1,
    )


def _interval(genuine: Scores, impostors: Scores, far: float, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(derive_seed(seed, "true accepts"))
    bounds = np.concatenate([[np.inf], np.sort(impostors)[::-1], [-np.inf]])
    count = len(genuine)
    accepted = count - np.searchsorted(np.sort(genuine), bounds, side="right")
    above = generator.binomial(len(impostors), far, _DRAWS)
    fewest, most = accepted[above], accepted[above + 1]
    # Beta has no parameter 0; the ends are certain there.
    low = np.where(fewest > 0, generator.beta(np.maximum(fewest, 1), count - fewest + 1), 0.0)
    high = np.where(most < count, generator.beta(most + 1, np.maximum(count - most, 1)), 1.0)
    outside = (1 - CONFIDENCE) / 2
    return float(np.quantile(low, outside)), float(np.quantile(high, 1 - outside))
