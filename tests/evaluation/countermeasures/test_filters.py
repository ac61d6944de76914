"""Blur, median, scaling and bit depth, against independent computations in NumPy."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.bit_depth import BitDepth
from withhold.evaluation.countermeasures.blur import GaussianBlur
from withhold.evaluation.countermeasures.median import MedianBlur
from withhold.evaluation.countermeasures.scaling import Scaling

from .conftest import Seen

LEVEL = 1 / 255


def neighbourhoods(images: Tensor, side: int) -> NDArray[np.float64]:
    """(n, 3, h, w, side, side), with the border reflected."""
    reach = side // 2
    padded = np.pad(images.double().numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="reflect")
    return sliding_window_view(padded, (side, side), axis=(2, 3))


def gaussian(images: Tensor, side: int, sigma: float) -> Tensor:
    distance = np.arange(side) - side // 2
    line = np.exp(-(distance**2) / (2 * sigma**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    return torch.from_numpy(np.einsum("nchwij,ij->nchw", neighbourhoods(images, side), kernel))


@pytest.mark.parametrize(("side", "sigma"), [(3, 0.8), (5, 1.0)])
def test_blur_is_the_convolution_with_a_gaussian_and_changes_images(batch: Tensor, side: int, sigma: float) -> None:
    blurred = GaussianBlur(side, sigma).blurred(batch)
    torch.testing.assert_close(blurred.double(), gaussian(batch, side, sigma), atol=1e-5, rtol=0)
    assert (blurred - batch).abs().mean() > 5 * LEVEL


def test_the_published_blur_is_no_blur_and_is_refused(batch: Tensor) -> None:
    assert (gaussian(batch, 3, 0.1) - batch).abs().max() < LEVEL / 1000
    for sigma in (0.1, 0.49, float("nan")):
        with pytest.raises(InvalidInput, match=r"sigma of at least 0\.5"):
            GaussianBlur(3, sigma)
    # The least that is allowed is seen in a file: most pixels change by a level or more.
    least = GaussianBlur(3, 0.5).blurred(batch)
    assert ((least - batch).abs() > LEVEL).float().mean() > 0.5


@pytest.mark.parametrize("side", [1, 2, 4])
def test_kernels_have_a_middle(side: int) -> None:
    with pytest.raises(InvalidInput, match="odd side"):
        GaussianBlur(side, 1.0)
    with pytest.raises(InvalidInput, match="odd side"):
        MedianBlur(side)


def test_median_is_taken_over_the_reflected_neighbourhood(batch: Tensor) -> None:
    expected = np.median(neighbourhoods(batch, 3).reshape(*batch.shape, 9), axis=-1)
    torch.testing.assert_close(MedianBlur(3).filtered(batch).double(), torch.from_numpy(expected))


def test_median_leaves_a_bright_border_bright() -> None:
    white = torch.ones(1, 3, 8, 8)
    assert torch.equal(MedianBlur(3).filtered(white), white)


def test_bits_leave_that_many_even_levels_and_round_to_the_nearest() -> None:
    ramp = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    for bits in (2, 4):
        rounded = BitDepth(bits).rounded(ramp)
        expected = torch.arange(2**bits) / (2**bits - 1)
        torch.testing.assert_close(torch.unique(rounded), expected)
        assert (rounded - ramp).abs().max() <= 0.5 / (2**bits - 1) + 1e-6
        # Dropping the low bits would darken: its mean is below the ramp's 0.5.
        assert rounded.mean().item() == pytest.approx(0.5)
    assert torch.equal(torch.unique((BitDepth(2).rounded(ramp) * 255).round()), torch.tensor([0.0, 85.0, 170.0, 255.0]))


@pytest.mark.parametrize("bits", [0, 8])
def test_useless_bit_depths_are_refused(bits: int) -> None:
    with pytest.raises(InvalidInput, match="from 1 to 7"):
        BitDepth(bits)


def test_scaling_removes_what_half_the_pixels_cannot_hold_and_keeps_the_rest(batch: Tensor) -> None:
    checkerboard = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    flat = Scaling().scaled(checkerboard.float().expand(1, 3, 16, 16))
    assert (flat[:, :, 3:-3, 3:-3] - 0.5).abs().max() < 1e-3
    grey = torch.full((1, 3, 16, 16), 0.25)
    torch.testing.assert_close(Scaling().scaled(grey), grey)
    scaled = Scaling().scaled(batch)
    assert scaled.shape == batch.shape
    assert 2 * LEVEL < (scaled - batch).abs().mean() < 30 * LEVEL


def test_scaling_down_is_antialiased(generator: torch.Generator) -> None:
    images = torch.rand(2, 3, 32, 32, generator=generator)
    # A triangle as wide as two small pixels, sampled at the four pixels under it. Two would be plain interpolation.
    weights = np.array([1, 3, 3, 1]) / 8
    windows = sliding_window_view(np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1))), (4, 4), axis=(2, 3))
    small = torch.from_numpy(np.einsum("nchwij,i,j->nchw", windows[:, :, ::2, ::2], weights, weights)).float()
    expected = torch.nn.functional.interpolate(small, (32, 32), mode="bicubic", align_corners=False)
    inner = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(Scaling().scaled(images)[inner], expected[inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [0, 1, 1.5])
def test_scaling_needs_a_smaller_side(side: float) -> None:
    with pytest.raises(InvalidInput, match=r"\(0, 1\)"):
        Scaling(side)


def test_what_is_trained_on_are_the_filtered_images_in_whole_levels(seen: Seen, batch: Tensor) -> None:
    countermeasure = GaussianBlur(3, 0.8)
    ((pixels, labels),) = seen(countermeasure).epoch(len(batch), torch.Generator().manual_seed(3))
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(3))
    expected = gaussian(batch, 3, 0.8)[order]
    assert (pixels - expected).abs().max() <= 0.5 * LEVEL + 1e-5
    assert torch.equal(pixels, (pixels * 255).round() / 255)
    assert torch.equal(labels, order % 4)
