import pytest
import torch

from withhold.craft.steps import constant_steps, linear_steps, signed_adam, signed_gradient, stepwise_steps


def test_signed_adam_is_torch_adam_fed_with_signs() -> None:
    generator = torch.Generator().manual_seed(0)
    slopes = [torch.randn(4, 5, generator=generator) for _ in range(7)]
    ours, theirs = torch.zeros(4, 5), torch.zeros(4, 5, requires_grad=True)
    optimizer = torch.optim.Adam([theirs], lr=0.1)
    update = signed_adam()
    for slope in slopes:
        ours = ours - 0.1 * update(slope)
        theirs.grad = slope.sign()
        optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_each_run_of_adam_begins_anew() -> None:
    slope = torch.tensor([3.0, -2.0])
    first = signed_adam()
    first(slope)
    first(-slope)
    assert torch.allclose(signed_adam()(slope), torch.tensor([1.0, -1.0]))


def test_signed_gradient_ignores_size() -> None:
    assert signed_gradient()(torch.tensor([1e-9, -5.0, 0.0])).tolist() == [1.0, -1.0, 0.0]


def test_schedules() -> None:
    assert constant_steps(0.5, 2) == (0.5, 0.5)
    assert linear_steps(1.0, 2) == (1.0, 0.5)
    assert stepwise_steps(1.0, 250)[93:95] == pytest.approx((1.0, 0.1))
    assert stepwise_steps(1.0, 250)[-1] == pytest.approx(0.001)
