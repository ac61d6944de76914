"""The table of verification: accuracy and true accept rates, with what is uncertain about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from withhold.evaluation.faces.report.ways import Way
from withhold.evaluation.faces.results import FaceAttempt, Verification
from withhold.evaluation.results import Spread


@dataclass(frozen=True, slots=True)
class Accepts:
    """The true accept rate at one false accept rate.

    Attributes:
        rate: None where the pairs are too few to tell.
        low: Lowest end of the seeds' 95 % confidence intervals.
        high: Highest end.
    """

    rate: Spread | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verified:
    """One attempt in the table.

    Attributes:
        standard_error: Over the folds, in the mean over the seeds.
    """

    attempt: FaceAttempt
    accuracy: Spread
    standard_error: float
    auc: Spread
    eer: Spread
    accepts: tuple[Accepts, ...]


@dataclass(frozen=True, slots=True)
class Verifications:
    """The whole table.

    Attributes:
        ways: What was verified of each way.
        fars: False accept rates asked for.
        pairs: Compared pairs.
        several: Whether any figure comes from several seeds.
    """

    ways: tuple[tuple[Way, tuple[Verified, ...]], ...]
    fars: tuple[float, ...]
    pairs: int
    several: bool


def verifications(ways: Sequence[Way]) -> Verifications | None:
    """Arrange what was verified; None if nothing was, for lack of pairs."""
    found = [(way, tuple(filter(None, map(_verified, way.attempts.values())))) for way in ways]
    listed = tuple((way, rows) for way, rows in found if rows)
    if not listed:
        return None
    first = _found(listed[0][1][0].attempt)[0]
    several = any(row.accuracy.count > 1 for _, rows in listed for row in rows)
    return Verifications(listed, tuple(each.far for each in first.accepts), first.pairs, several)


def _found(attempt: FaceAttempt) -> list[Verification]:
    return [result.verification for result in attempt.results if result.verification]


def _verified(attempt: FaceAttempt) -> Verified | None:
    found = _found(attempt)
    if not found or attempt.accuracy is None or attempt.auc is None or attempt.eer is None:
        return None
    error = fmean(each.standard_error for each in found)
    accepts = tuple(_accepts(found, index) for index in range(len(found[0].accepts)))
    return Verified(attempt, attempt.accuracy, error, attempt.auc, attempt.eer, accepts)


def _accepts(found: Sequence[Verification], index: int) -> Accepts:
    at = [each.accepts[index] for each in found]
    rate = Spread.of([each.tar for each in at]) if all(each.resolvable for each in at) else None
    return Accepts(rate, min(each.low for each in at), max(each.high for each in at))
