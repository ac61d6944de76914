import math

import numpy as np
import pytest
import torch
from kornia.metrics import ssim as reference
from tests.release.fakes import pixels

from withhold.data.pixels import Picture
from withhold.data.quality import psnr, ssim


def test_psnr_of_a_constant_change() -> None:
    before = Picture(np.full((4, 5, 3), 100, np.uint8))
    assert psnr(before, Picture(before.levels + np.uint8(8))) == pytest.approx(20 * math.log10(255 / 8))
    assert psnr(before, before) == math.inf


def test_psnr_of_16_bit_pictures_is_relative_to_their_range() -> None:
    before = Picture(np.full((4, 5, 1), 100 * 257, np.uint16))
    assert psnr(before, Picture(before.levels + np.uint16(8 * 257))) == pytest.approx(20 * math.log10(255 / 8))


def test_ssim_is_one_for_equal_pictures_and_less_for_others() -> None:
    before = [Picture(pixels(0)), Picture(pixels(1))]
    same, other = ssim(before, [before[0], Picture(pixels(2))])
    assert same == pytest.approx(1, abs=1e-4)
    assert other < 0.5


def test_ssim_keeps_the_order_of_mixed_sizes_and_equals_the_library() -> None:
    shapes = [(12, 12), (30, 14), (12, 12), (30, 14)]
    before = [Picture(pixels(index, *shape)) for index, shape in enumerate(shapes)]
    after = [Picture(np.clip(each.levels + np.uint8(index), 0, 255)) for index, each in enumerate(before, 1)]
    expected = [
        float(reference(torch.from_numpy(one.unit())[None], torch.from_numpy(two.unit())[None], 11).mean())
        for one, two in zip(before, after, strict=True)
    ]
    assert ssim(before, after) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (5, 5), (10, 10), (11, 11)])
def test_ssim_of_pictures_smaller_than_the_window(shape: tuple[int, int]) -> None:
    before = Picture(pixels(0, *shape))
    (same,) = ssim([before], [before])
    assert same == pytest.approx(1, abs=1e-4)
