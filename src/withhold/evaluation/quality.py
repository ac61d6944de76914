"""How much a release looks like its originals: every pair measured, some pairs drawn."""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from withhold.data.drawing import difference, shown
from withhold.data.pixels import Picture as Pixels
from withhold.data.pixels import change
from withhold.data.quality import PIXELS_AT_A_TIME, psnr, ssim
from withhold.evaluation.lpips import Lpips
from withhold.evaluation.results import LEAST_ALIKE, SAMPLED, PairQuality, Picture
from withhold.seeds import derive_seed

HELD_PIXELS = 16 * PIXELS_AT_A_TIME
"""Most pixels that wait, over all sizes of picture, until there are enough of one size to measure them together."""

SIDE = 512
MAGNIFIED = 10.0

Pair = tuple[Pixels, Pixels]
Read = Callable[[Sequence[int]], Iterable[Pair]]
"""Reads pairs by their row among the measured ones, in the order asked for."""


def measure_pairs(pairs: Iterable[tuple[str, str, Pixels, Pixels]], lpips: Lpips | None) -> list[PairQuality]:
    """Measure how alike each original and its released picture are.

    Pictures of one size and depth are measured together; only a bounded number of them is held at a time.

    Args:
        pairs: Name, class, original, released. The two pictures are equal in size, channels and depth.
        lpips: The learnt distance, or None to leave it out.

    Returns:
        One measurement for each pair, in the order of the pairs.

    Raises:
        InvalidInput: The two pictures of a pair differ in size, channels or depth.
    """
    waiting = _Waiting(lpips)
    for name, label, before, after in pairs:
        waiting.add(name, label, before, after)
    return waiting.finish()


@dataclass(slots=True)
class _Waiting:
    """Pairs that are not measured yet, by size and depth, and the measurements of the others, by row."""

    lpips: Lpips | None
    measured: dict[int, PairQuality] = field(default_factory=dict)
    groups: defaultdict[tuple[object, ...], list[tuple[int, str, str, Pixels, Pixels]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    rows: int = 0
    held: int = 0

    def add(self, name: str, label: str, before: Pixels, after: Pixels) -> None:
        change(before, after)  # refuses unequal pictures here, where their order is still that of the caller
        key = (before.levels.shape, before.levels.dtype.str)
        group = self.groups[key]
        group.append((self.rows, name, label, before, after))
        self.rows += 1
        self.held += _pixels(before)
        if len(group) * _pixels(before) >= PIXELS_AT_A_TIME:
            self._measure(key)
        while self.held > HELD_PIXELS:
            self._measure(max(self.groups, key=lambda each: len(self.groups[each]) * _pixels(self.groups[each][0][3])))

    def finish(self) -> list[PairQuality]:
        for key in list(self.groups):
            self._measure(key)
        return [self.measured[row] for row in range(self.rows)]

    def _measure(self, key: tuple[object, ...]) -> None:
        group = self.groups.pop(key)
        self.held -= sum(_pixels(before) for _, _, _, before, _ in group)
        befores, afters = [each[3] for each in group], [each[4] for each in group]
        similar = ssim(befores, afters)
        distant = _distances(self.lpips, befores, afters)
        for (row, name, label, before, after), alike, distance in zip(group, similar, distant, strict=True):
            largest = float(change(before, after).max())
            self.measured[row] = PairQuality(name, label, psnr(before, after), alike, distance, largest)


def _pixels(picture: Pixels) -> int:
    return int(picture.levels.shape[0] * picture.levels.shape[1])


def _distances(lpips: Lpips | None, before: Sequence[Pixels], after: Sequence[Pixels]) -> Sequence[float | None]:
    if lpips is None or min(before[0].levels.shape[:2]) < Lpips.smallest:
        return [None] * len(before)
    sides = (torch.from_numpy(np.stack([picture.unit() for picture in side])) for side in (before, after))
    return [round(float(value), 6) for value in lpips(*sides)]


def pictures(
    quality: Sequence[PairQuality],
    read: Read,
    *,
    count: int,
    least_alike: int = 3,
    seed: int = 0,
    magnified: float = MAGNIFIED,
) -> tuple[Picture, ...]:
    """Choose pairs to show, and draw them.

    Args:
        quality: Of every pair; a row here is a row for `read`.
        count: Pairs drawn at random, one of each class before a second of any.
        least_alike: Pairs shown because they are the least alike: by LPIPS where every pair has it, else by SSIM.
        magnified: Factor on the differences, of which zero is drawn mid grey.

    Returns:
        The sampled pairs, then the least alike ones, the worst first; no pair twice.
    """
    worst = _least_alike(quality)[:least_alike]
    sampled = [row for row in _sampled(quality, seed) if row not in worst][:count]
    chosen = [*((row, SAMPLED) for row in sampled), *((row, LEAST_ALIKE) for row in worst)]
    pairs = read([row for row, _ in chosen])
    return tuple(
        _drawn(quality[row], why, before, after, magnified)
        for (row, why), (before, after) in zip(chosen, pairs, strict=True)
    )


def _least_alike(quality: Sequence[PairQuality]) -> list[int]:
    learnt = all(pair.lpips is not None for pair in quality)

    def likeness(row: int) -> tuple[float, float]:
        pair = quality[row]
        return (-pair.lpips if learnt and pair.lpips is not None else pair.ssim, pair.psnr)

    return sorted(range(len(quality)), key=likeness)


def _sampled(quality: Sequence[PairQuality], seed: int) -> list[int]:
    turns: Counter[str] = Counter()
    drawn = []
    for row in np.random.default_rng(derive_seed(seed, "report pictures")).permutation(len(quality)).tolist():
        label = quality[row].label
        drawn.append((turns[label], row))
        turns[label] += 1
    return [row for _, row in sorted(drawn, key=lambda turn_and_row: turn_and_row[0])]


def _drawn(quality: PairQuality, why: str, before: Pixels, after: Pixels, magnified: float) -> Picture:
    height, width = before.levels.shape[:2]
    # Differences are magnified at full size and reduced by picking pixels: averages would make them vanish.
    changed = difference(before, after, magnified)
    smooth, picked = Image.Resampling.LANCZOS, Image.Resampling.NEAREST
    return Picture(
        quality,
        png(shown(before), smooth),
        png(shown(after), smooth),
        png(changed, picked),
        magnified,
        why,
        (width, height),
    )


def png(image: Image.Image, resampling: Image.Resampling) -> bytes:
    """Encode a drawing, reduced to at most `SIDE` pixels a side."""
    ratio = SIDE / max(image.size)
    if ratio < 1:
        width, height = (max(1, round(side * ratio)) for side in image.size)
        image = image.resize((width, height), resampling)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
