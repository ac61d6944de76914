import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from withhold.craft.ball import Linf
from withhold.craft.steps import Start, normal_start, uniform_start, zero_start
from withhold.errors import InvalidInput


def draw(seed: int, scale: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, 5, 4, generator=generator).double().round(decimals=2)
    return images, torch.randn(2, 3, 5, 4, generator=generator).double() * scale


@given(seed=st.integers(0, 10**6), scale=st.floats(0, 10), radius=st.floats(0.001, 1))
def test_projection_is_feasible_idempotent_and_keeps_what_is_inside(seed: int, scale: float, radius: float) -> None:
    images, delta = draw(seed, scale)
    bounds = Linf(radius).bounds(images)
    projected = bounds.project(delta)
    assert projected.abs().max() <= radius
    assert (images + projected).min() >= 0
    assert (images + projected).max() <= 1
    assert torch.equal(bounds.project(projected), projected)
    inside = (delta.abs() <= radius) & (images + delta >= 0) & (images + delta <= 1)
    assert torch.allclose(projected[inside], delta[inside], rtol=0, atol=1e-15)


def test_bounds_are_where_ball_and_range_end() -> None:
    images = torch.tensor([0.0, 0.05, 0.5, 0.98, 1.0], dtype=torch.float64).reshape(1, 1, 1, 5)
    bounds = Linf(0.1).bounds(images)
    expected_lower = torch.tensor([0.0, -0.05, -0.1, -0.1, -0.1], dtype=torch.float64)
    expected_upper = torch.tensor([0.1, 0.1, 0.1, 0.02, 0.0], dtype=torch.float64)
    assert torch.allclose(bounds.lower.flatten(), expected_lower)
    assert torch.allclose(bounds.upper.flatten(), expected_upper)


def test_nothing_changes_outside_the_region() -> None:
    images, delta = draw(0, 1.0)
    region = torch.zeros(2, 1, 5, 4, dtype=torch.bool)
    region[0, :, 1:3, 1:3] = True
    projected = Linf(0.1).bounds(images, region).project(delta)
    assert torch.equal(projected != 0, (region & (projected != 0)).expand_as(projected) & (projected != 0))
    assert torch.equal(
        projected[~region.expand_as(projected)], torch.zeros(int((~region.expand_as(projected)).sum())).double()
    )
    assert (projected[0, :, 1:3, 1:3] != 0).any()


@pytest.mark.parametrize("start", [uniform_start, normal_start, zero_start])
def test_starts_are_inside_and_repeatable(start: Start) -> None:
    images, _ = draw(1, 1.0)
    bounds = Linf(0.1).bounds(images)
    first = start(bounds, torch.Generator().manual_seed(5))
    assert torch.equal(bounds.project(first), first)
    assert torch.equal(first, start(bounds, torch.Generator().manual_seed(5)))
    if start is not zero_start:
        assert not torch.equal(first, start(bounds, torch.Generator().manual_seed(6)))


def test_uniform_start_fills_the_ball() -> None:
    bounds = Linf(0.1).bounds(torch.full((1, 3, 100, 100), 0.5).double())
    delta = uniform_start(bounds, torch.Generator().manual_seed(0))
    assert abs(delta.mean().item()) < 0.002
    assert abs(delta.std().item() - 0.2 / 12**0.5) < 0.001


@pytest.mark.parametrize("radius", [0.0, -0.1, 1.5, float("nan")])
def test_a_radius_that_is_no_fraction_is_refused(radius: float) -> None:
    with pytest.raises(InvalidInput, match="fraction of the pixel range"):
        Linf(radius)
