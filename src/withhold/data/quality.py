"""How much two pictures look alike: PSNR and SSIM, on decoded pictures."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from kornia.metrics import ssim as ssim_map

from withhold.data.pixels import Picture

WINDOW = 11
PIXELS_AT_A_TIME = 1 << 20


def psnr(before: Picture, after: Picture) -> float:
    """Measure the peak signal-to-noise ratio of the changed channels in dB; infinite if nothing changed."""
    peak = float(np.iinfo(before.levels.dtype).max)
    error = float(np.mean((before.levels.astype(np.float64) - after.levels) ** 2))
    return 10 * float(np.log10(peak**2 / error)) if error else float("inf")


def window_for(height: int, width: int) -> int:
    """Choose the side of the SSIM window: 11 pixels, or the largest odd number that fits into a smaller picture.

    >>> window_for(32, 32), window_for(8, 200), window_for(1, 5)
    (11, 7, 1)
    """
    side = min(WINDOW, height, width)
    return side - 1 + side % 2


def ssim(before: Sequence[Picture], after: Sequence[Picture]) -> list[float]:
    """Measure the mean structural similarity of each pair, in [-1, 1].

    Gaussian window of 11 pixels with a deviation of 1.5 (smaller pictures: `window_for`), borders reflected, mean over
    pixels and channels (kornia's `ssim` with `padding="same"`). Values are rounded to six decimals.
    """
    values = np.empty(len(before), np.float64)
    shapes = [picture.levels.shape for picture in before]
    order = sorted(range(len(before)), key=lambda index: shapes[index])
    for shape, group in groupby(order, key=lambda index: shapes[index]):
        rows = list(group)
        step = max(1, PIXELS_AT_A_TIME // max(1, shape[0] * shape[1]))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            values[some] = _ssim_of_equal_sizes([before[i] for i in some], [after[i] for i in some])
    return [round(float(value), 6) for value in values]


def _ssim_of_equal_sizes(before: Sequence[Picture], after: Sequence[Picture]) -> np.ndarray:
    one, other = (torch.from_numpy(np.stack([picture.unit() for picture in some])) for some in (before, after))
    with torch.inference_mode():
        similarity = ssim_map(one, other, window_for(one.shape[2], one.shape[3]))
    return np.asarray(similarity.double().mean(dim=(1, 2, 3)).numpy())
