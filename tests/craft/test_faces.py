"""Crops of faces against pooling, turning and an independent resampler, and what may change of a photograph."""

import math

import pytest
import torch
from kornia.geometry.transform import warp_affine
from torch import Tensor
from torch.nn import functional as F

from withhold.craft.augment import ShiftFlip
from withhold.craft.ball import Linf
from withhold.craft.faces import AlignedFaces, Square
from withhold.craft.loop import craft
from withhold.craft.objectives import Objective
from withhold.errors import InvalidInput


def photograph(height: int, width: int, count: int = 1, *, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_square_of_the_crops_size_on_whole_pixels_is_cut_out_as_it_is() -> None:
    image = photograph(40, 50)
    crop = AlignedFaces(((0, (7.0, 5.0, 16.0, 0.0)),), side=16).crops(image)
    assert torch.allclose(crop, image[:, :, 5:21, 7:23], atol=1e-12)


def test_a_square_of_twice_the_size_is_averaged() -> None:
    image = photograph(40, 50)
    crop = AlignedFaces(((0, (7.0, 5.0, 32.0, 0.0)),), side=16).crops(image)
    assert torch.allclose(crop, F.avg_pool2d(image[:, :, 5:37, 7:39], 2), atol=1e-12)


@pytest.mark.parametrize(
    ("square", "turns"), [((4.0, 20.0, 0.0, -16.0), -1), ((20.0, 4.0, 0.0, 16.0), 1), ((20.0, 20.0, -16.0, 0.0), 2)]
)
def test_a_turned_square_gives_a_turned_crop(square: Square, turns: int) -> None:
    image = photograph(24, 24)
    crop = AlignedFaces(((0, square),), side=16).crops(image)
    assert torch.allclose(crop, image[:, :, 4:20, 4:20].rot90(turns, (2, 3)), atol=1e-12)


def test_an_enlarged_and_tilted_face_agrees_with_an_independent_warp() -> None:
    """Kornia's warp takes the matrix from photograph to crop, between the centres of pixels."""
    image, side, angle, scale = photograph(60, 60), 16, 0.3, 0.8
    across, down = side * scale * math.cos(angle), side * scale * math.sin(angle)
    corner = torch.tensor([22.0, 17.0], dtype=torch.float64)
    to_photograph = torch.tensor([[across, -down], [down, across]], dtype=torch.float64) / side
    matrix = torch.zeros(1, 2, 3, dtype=torch.float64)
    matrix[0, :, :2] = to_photograph.inverse()
    matrix[0, :, 2] = to_photograph.inverse() @ (0.5 - corner) - 0.5
    expected = warp_affine(image, matrix, (side, side), align_corners=True)
    crop = AlignedFaces(((0, (22.0, 17.0, across, down)),), side=side).crops(image)
    assert torch.allclose(crop, expected, atol=1e-9)


@pytest.mark.parametrize("shrink", [2, 3, 7])
def test_what_averages_out_in_the_crop_has_no_slope(shrink: int) -> None:
    """One bilinear sample for each pixel of the crop would see a checkerboard; the mean of all does not."""
    side = 8 * shrink
    image = photograph(side, side).requires_grad_()
    crop = AlignedFaces(((0, (0.0, 0.0, float(side), 0.0)),), side=8).crops(image)
    weights = torch.rand(crop.shape, dtype=torch.float64)
    (slope,) = torch.autograd.grad((crop * weights).sum(), image)
    assert torch.allclose(slope, F.interpolate(weights, scale_factor=shrink) / shrink**2, atol=1e-12)


def test_beyond_the_edge_of_the_photograph_all_is_black() -> None:
    crop = AlignedFaces(((0, (-8.0, 0.0, 16.0, 0.0)),), side=16).crops(torch.ones(1, 1, 16, 16))
    assert torch.equal(crop[..., :8], torch.zeros(1, 1, 16, 8))
    assert torch.equal(crop[..., 8:], torch.ones(1, 1, 16, 8))


def test_the_region_is_exactly_where_a_square_lies() -> None:
    images = photograph(30, 40, 2)
    faces = AlignedFaces(((1, (3.0, 4.0, 8.0, 0.0)), (1, (20.0, 10.0, 8.0, 0.0)), (0, (10.0, 18.0, 0.0, -8.0))))
    expected = torch.zeros(2, 1, 30, 40, dtype=torch.bool)
    expected[1, 0, 4:12, 3:11] = True
    expected[1, 0, 10:18, 20:28] = True
    expected[0, 0, 10:18, 10:18] = True
    assert torch.equal(faces.region(images), expected)


class Sum:
    """The sum of each view's pixels, weighted by its label: each pixel's slope is known."""

    def slope(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return labels.to(inputs)[:, None, None, None].expand_as(inputs).contiguous()

    def losses(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return (inputs.sum((1, 2, 3)) * labels).detach()


def test_every_face_of_a_photograph_is_crafted_by_its_own_label_and_nothing_else_changes() -> None:
    images, labels = torch.full((2, 3, 40, 40), 0.5), torch.tensor([1, -1, 1])
    faces = AlignedFaces(
        ((0, (2.0, 2.0, 14.0, 0.0)), (0, (20.0, 20.0, 16.0, 0.0)), (1, (5.0, 9.0, 10.0, 0.0))), 8, ShiftFlip()
    )
    objective: Objective = Sum()
    delta = craft(
        images,
        labels,
        objective,
        ball=Linf(0.03),
        step_sizes=[0.03] * 40,
        generator=torch.Generator().manual_seed(0),
        augment=faces,
        region=faces.region(images),
    )
    assert torch.equal(delta * ~faces.region(images), torch.zeros_like(delta))
    for index, (rows, columns), sign in [
        (0, ((2, 16), (2, 16)), -1),
        (0, ((20, 36), (20, 36)), 1),
        (1, ((9, 19), (5, 15)), -1),
    ]:
        inside = delta[index, :, rows[0] + 2 : rows[1] - 2, columns[0] + 2 : columns[1] - 2]
        assert torch.allclose(inside, torch.full_like(inside, sign * 0.03))


def test_a_label_too_many_is_refused() -> None:
    faces = AlignedFaces(((0, (0.0, 0.0, 8.0, 0.0)),), side=8)
    with pytest.raises(InvalidInput, match=r"expected shape \(1,\), got \(2,\)"):
        craft(
            torch.rand(1, 3, 8, 8),
            torch.tensor([0, 1]),
            Sum(),
            ball=Linf(0.1),
            step_sizes=[0.1],
            generator=torch.Generator(),
            augment=faces,
        )
