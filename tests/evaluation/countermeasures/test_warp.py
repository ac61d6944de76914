import numpy as np
import pytest
import torch
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.warp import Warp, displaced


def reference(image: Tensor, moves: Tensor) -> Tensor:
    """Bilinear interpolation, pixel by pixel, in an image repeated in all directions."""
    channels, height, width = image.shape
    result = np.zeros((channels, height, width))
    for y in range(height):
        for x in range(width):
            row, column = y + float(moves[0, y, x]), x + float(moves[1, y, x])
            for corner_row in (int(np.floor(row)), int(np.floor(row)) + 1):
                for corner_column in (int(np.floor(column)), int(np.floor(column)) + 1):
                    weight = (1 - abs(row - corner_row)) * (1 - abs(column - corner_column))
                    result[:, y, x] += weight * image[:, corner_row % height, corner_column % width].numpy()
    return torch.from_numpy(result)


def test_displacement_is_bilinear_interpolation_in_the_repeated_image(
    batch: Tensor, generator: torch.Generator
) -> None:
    images = batch[:2, :, :10, :7]
    moves = 8 * torch.rand(2, 2, 10, 7, generator=generator) - 4
    expected = torch.stack([reference(*each) for each in zip(images, moves, strict=True)])
    torch.testing.assert_close(displaced(images, moves).double(), expected, atol=1e-5, rtol=0)


def test_whole_moves_roll_the_image(batch: Tensor) -> None:
    moves = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand(32, 2, 16, 16)
    assert torch.equal(displaced(batch, moves), batch.roll((-1, 2), (2, 3)))


def moved(spacing: int, generator: torch.Generator) -> Tensor:
    """The moves of a warp, (n, 2, 30, 30), read off ramps along each axis, away from the border."""
    line = torch.arange(36) / 36
    ramps = torch.stack([line[:, None].expand(36, 36), line.expand(36, 36), torch.zeros(36, 36)])
    warped, _ = Warp(spacing=spacing).change(ramps.expand(50, 3, 36, 36), torch.zeros(50), generator)
    return ((warped - ramps) * 36)[:, :2, 3:-3, 3:-3]


def test_moves_reach_two_pixels_and_are_uniform_and_independent(generator: torch.Generator) -> None:
    moves = moved(1, generator)
    assert 1.99 < moves.max() <= 2.001
    assert -2.001 <= moves.min() < -1.99
    assert moves.var().item() == pytest.approx(4**2 / 12, rel=0.02)
    neighbours = (moves[..., 1:] * moves[..., :-1]).mean() / moves.var()
    assert abs(neighbours) < 0.02
    assert abs((moves[:, 0] * moves[:, 1]).mean()) < 0.02


def test_with_a_spacing_moves_are_smooth(generator: torch.Generator) -> None:
    moves = moved(4, generator)
    assert moves.abs().max() <= 2.001
    assert moves.diff().abs().max() <= 4 / 4 + 1e-3
    assert (moves[..., 1:] * moves[..., :-1]).mean() / moves.var() > 0.8


def test_useless_warps_are_refused() -> None:
    for settings in ((0.0, 1), (2.0, 0)):
        with pytest.raises(InvalidInput, match="warp needs"):
            Warp(*settings)
