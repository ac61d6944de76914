import pytest
import torch
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.cutout import Cutout


def holes(count: int, generator: torch.Generator, side: int = 32) -> Tensor:
    """The pixels that are covered, (n, h, w): each pixel of the input differs from the mean."""
    images = torch.linspace(0, 1, 2 * side * side).view(1, 1, side, 2 * side)[..., ::2].expand(count, 3, side, side)
    covered, _ = Cutout().change(images, torch.zeros(count), generator)
    changed = (covered != images).any(1)
    assert torch.allclose(covered[changed[:, None].expand_as(covered)], images.mean())
    return changed


def test_a_hole_is_a_square_of_half_the_side_that_only_the_edge_cuts_off(generator: torch.Generator) -> None:
    covered = holes(400, generator)
    full = 0
    for hole in covered:
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns)
        for line in (rows, columns):
            length = int(line.sum())
            assert length == 16 or (8 <= length < 16 and (line[0] or line[-1]))
        full += int(hole.sum()) == 16 * 16
    # The centre may be anywhere. It is 8 or more from the edges on 17 of 32 rows: (17/32)^2 of the holes are whole.
    assert full / 400 == pytest.approx((17 / 32) ** 2, abs=0.08)


def test_every_pixel_is_covered_at_some_time(generator: torch.Generator) -> None:
    assert holes(400, generator).any(0).all()


def test_images_of_a_batch_have_holes_of_their_own(generator: torch.Generator) -> None:
    assert len({tuple(hole.flatten().tolist()) for hole in holes(20, generator)}) > 15


@pytest.mark.parametrize("side", [0, 1.1])
def test_impossible_sides_are_refused(side: float) -> None:
    with pytest.raises(InvalidInput, match=r"\(0, 1\]"):
        Cutout(side)
