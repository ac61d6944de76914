"""How alike originals and released images are: distributions as bars, and the least alike."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from withhold.evaluation.results import PairQuality

BINS, FEWEST_BINS = 24, 8
WIDTH, BASE = 320, 96
LEAST_ALIKE_LISTED = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in the drawing's units, and what it counts."""

    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """One measurement over all pairs.

    Attributes:
        left_out: Pairs without a finite value.
        left_out_because: Why.
        median_x: Where the median lies, in the drawing's units.
    """

    title: str
    unit: str
    better: str
    bars: tuple[Bar, ...]
    lowest: str
    median: str
    mean: str
    highest: str
    median_x: float
    count: int
    left_out: int
    left_out_because: str


@dataclass(frozen=True, slots=True)
class Alike:
    """Everything that the page says about likeness.

    Attributes:
        pairs: Number of those measured.
        least: Those with the lowest SSIM, the worst first.
        has_lpips: Whether any pair has it.
    """

    pairs: int
    histograms: tuple[Histogram, ...]
    least: tuple[PairQuality, ...]
    has_lpips: bool


def alike(quality: Sequence[PairQuality]) -> Alike:
    """Gather what the page says about likeness."""
    least = sorted(quality, key=lambda pair: (pair.ssim, pair.psnr))[:LEAST_ALIKE_LISTED]
    has_lpips = any(pair.lpips is not None for pair in quality)
    return Alike(len(quality), tuple(histograms(quality)), tuple(least), has_lpips)


def histograms(quality: Sequence[PairQuality]) -> list[Histogram]:
    """Count PSNR, SSIM and, where it was measured, LPIPS."""
    found = [
        _histogram(
            [pair.psnr for pair in quality],
            title="PSNR",
            unit="dB",
            better="higher is more alike",
            form=".1f",
            because="unchanged, so without a finite PSNR",
        ),
        _histogram(
            [pair.ssim for pair in quality],
            title="SSIM",
            unit="",
            better="1 is alike",
            form=".4f",
            because="not finite",
        ),
        _histogram(
            [pair.lpips for pair in quality],
            title="LPIPS",
            unit="",
            better="0 is alike",
            form=".4f",
            because="without LPIPS, which needs 31 pixels a side",
        ),
    ]
    return [each for each in found if each is not None]


def _histogram(
    values: Sequence[float | None], *, title: str, unit: str, better: str, form: str, because: str
) -> Histogram | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if high - low < 1e-9:  # noqa: PLR2004 - below every digit that is shown
        low, high = low - 0.5, high + 0.5
    median = statistics.median(finite)
    return Histogram(
        title=title,
        unit=unit,
        better=better,
        bars=_bars(finite, low, high, form),
        lowest=f"{low:{form}}",
        median=f"{median:{form}}",
        mean=f"{statistics.fmean(finite):{form}}",
        highest=f"{high:{form}}",
        median_x=round((median - low) / (high - low) * WIDTH, 1),
        count=len(finite),
        left_out=len(values) - len(finite),
        left_out_because=because,
    )


def _bars(values: Sequence[float], low: float, high: float, form: str) -> tuple[Bar, ...]:
    bins = min(BINS, max(FEWEST_BINS, math.isqrt(len(values))))
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    step = WIDTH / bins
    return tuple(
        _bar(index, int(count), int(counts.max()), step, f"{edges[index]:{form}} to {edges[index + 1]:{form}}")
        for index, count in enumerate(counts)
    )


def _bar(index: int, count: int, most: int, step: float, span: str) -> Bar:
    height = round(count / most * BASE, 1)
    return Bar(round(index * step + 0.5, 1), round(BASE - height, 1), round(step - 1, 1), height, f"{span}: {count}")
