"""How alike originals and their released images are: measured in one place for every kind of evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from withhold.data.arrays import spread_rows
from withhold.data.entries import Rows
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.evaluation.lpips import Lpips
from withhold.evaluation.matching import Chosen
from withhold.evaluation.quality import measure_pairs, pictures
from withhold.evaluation.results import PairQuality
from withhold.evaluation.results import Picture as Drawn
from withhold.progress import Reporter

MEASURED = 2000
"""Pairs whose likeness is measured, spread evenly over a larger set."""


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How alike originals and released images are.

    Attributes:
        rows: Which pairs were measured.
        quality: Of each of them.
    """

    chosen: Chosen
    rows: Rows
    quality: tuple[PairQuality, ...]

    @property
    def bound(self) -> int:
        """Return the largest change of a channel value, in whole levels."""
        return int(np.ceil(max(pair.largest for pair in self.quality)))

    def pictures(self, count: int, seed: int) -> tuple[Drawn, ...]:
        """Draw sampled pairs and the least alike ones."""

        def read(numbers: Sequence[int]) -> Iterator[tuple[Picture, Picture]]:
            return _pairs(self.chosen, self.rows[np.asarray(numbers, np.int64)])

        return pictures(self.quality, read, count=count, seed=seed)


def _pairs(chosen: Chosen, rows: Rows) -> Iterator[tuple[Picture, Picture]]:
    return zip(chosen.original.pictures(rows), chosen.released.pictures(rows), strict=True)


def compare(chosen: Chosen, lpips: Lpips | None, reporter: Reporter) -> Likeness:
    """Measure how alike originals and released images are, on all pairs or an even sample of a larger set.

    Raises:
        InvalidInput: A released image cannot be read or has another size, or nothing was changed.
    """
    rows = spread_rows(len(chosen.original), MEASURED, random_access=True)
    original = chosen.original.take(rows)
    reporter.start("Comparing pictures", len(rows), "images")

    def pairs() -> Iterator[tuple[str, str, Picture, Picture]]:
        decoded = _pairs(chosen, rows)
        for entry, label, (before, after) in zip(original.entries, original.labels, decoded, strict=True):
            reporter.advance()
            yield entry.name, chosen.classes[label], before, after

    likeness = Likeness(chosen, rows, tuple(measure_pairs(pairs(), lpips)))
    reporter.finish()
    if likeness.bound == 0:
        place = chosen.released.dataset.root
        msg = f"{place} holds the originals themselves: nothing was changed, so there is nothing to evaluate"
        raise InvalidInput(msg)
    return likeness
