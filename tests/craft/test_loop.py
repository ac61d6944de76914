import copy

import pytest
import torch
from tests.craft.conftest import make_batch, make_network
from torch import Tensor, nn

from withhold.craft import (
    Alignment,
    ClassTargeted,
    Linf,
    ShiftFlip,
    best_of,
    constant_steps,
    craft,
    mean_direction,
    signed_adam,
)
from withhold.craft.alignment import gradient, inner
from withhold.craft.objectives import Objective
from withhold.craft.steps import zero_start
from withhold.errors import InvalidInput

RADIUS = 8 / 255


def linear_network(seed: int = 0) -> tuple[nn.Module, Tensor]:
    weight = torch.randn(2, 3 * 8 * 8, generator=torch.Generator().manual_seed(seed)).double()
    linear = nn.Linear(192, 2, bias=False).double()
    with torch.no_grad():
        linear.weight.copy_(weight)
    return nn.Sequential(nn.Flatten(), linear).eval(), weight


def test_on_a_linear_surrogate_crafting_ends_in_the_known_optimum() -> None:
    """Towards class t the logit difference grows fastest along sign(w_t - w_y): that corner of the ball is optimal."""
    network, weight = linear_network()
    images, _ = make_batch(4)
    labels = torch.tensor([0, 1, 0, 1])
    delta = craft(
        images,
        labels,
        ClassTargeted(network),
        ball=Linf(RADIUS),
        step_sizes=constant_steps(RADIUS / 4, 12),
        generator=torch.Generator().manual_seed(0),
    )
    difference = (weight[1] - weight[0]).reshape(3, 8, 8)
    for image, label, moved in zip(images, labels, delta, strict=True):
        corner = RADIUS * difference.sign() * (1 if label == 0 else -1)
        expected = (image + corner).clamp(0, 1) - image
        assert torch.allclose(moved, expected, atol=1e-12)


def test_small_loop_by_hand() -> None:
    """Three signed steps from zero, written out."""
    network, (images, labels) = make_network("smooth"), make_batch(3)
    objective = ClassTargeted(network)
    expected = torch.zeros_like(images)
    for size in (0.01, 0.02, 0.005):
        expected = expected - size * objective.slope(images + expected, labels).sign()
        expected = (images + expected.clamp(-0.02, 0.02)).clamp(0, 1) - images
    delta = craft(
        images,
        labels,
        objective,
        ball=Linf(0.02),
        step_sizes=(0.01, 0.02, 0.005),
        generator=torch.Generator(),
        start=zero_start,
    )
    assert torch.allclose(delta, expected, atol=1e-12)


@pytest.mark.parametrize("joint", [True, False])
def test_crafting_raises_what_it_aims_at_and_a_wider_ball_raises_it_more(joint: bool) -> None:
    """The cosine for the joint form, the inner product with the direction for the decoupled one."""
    network, (images, labels) = make_network("convolutional"), make_batch(16)
    direction = mean_direction(network, [(images, labels)])
    objective = Alignment(network, direction, joint)
    reached = []
    for radius in (1e-9, 2 / 255, 16 / 255):
        delta = craft(
            images,
            labels,
            objective,
            ball=Linf(radius),
            step_sizes=constant_steps(radius / 5, 30),
            generator=torch.Generator().manual_seed(0),
        )
        g = gradient(network, images + delta, labels)
        reached.append((inner(g, direction) / (inner(g, g).sqrt() if joint else 1)).item())
    assert reached[0] < reached[1] < reached[2]


def craft_default(objective: Objective, images: Tensor, labels: Tensor, seed: int = 0) -> Tensor:
    return craft(
        images,
        labels,
        objective,
        ball=Linf(RADIUS),
        step_sizes=constant_steps(RADIUS / 4, 5),
        generator=torch.Generator().manual_seed(seed),
        rule=signed_adam,
        augment=ShiftFlip(),
    )


def test_equal_seeds_give_equal_results_and_the_surrogate_is_only_read(
    network: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    before = copy.deepcopy(network.state_dict())
    objective = Alignment(network, mean_direction(network, [batch]))
    first, again = craft_default(objective, *batch), craft_default(objective, *batch)
    assert torch.equal(first, again)
    assert not torch.equal(first, craft_default(objective, *batch, seed=1))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert first.abs().max() <= RADIUS
    assert not first.requires_grad


def test_restarts_keep_the_best_image_by_image() -> None:
    draws = {0: torch.tensor([3.0, 1.0]), 1: torch.tensor([2.0, 5.0]), 2: torch.tensor([4.0, 4.0])}
    generators = [torch.Generator().manual_seed(seed) for seed in draws]

    def craft_once(generator: torch.Generator) -> Tensor:
        return draws[generator.initial_seed()].reshape(2, 1, 1, 1)

    best = best_of(craft_once, lambda delta: delta.flatten(), generators)
    assert best.flatten().tolist() == [2.0, 1.0]


def test_restarts_need_a_generator() -> None:
    with pytest.raises(InvalidInput, match="at least one generator"):
        best_of(lambda _: torch.zeros(1, 1, 1, 1), lambda delta: delta.flatten(), [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: (images * 255, labels), r"pixels lie in \[0, 1\]"),
        (lambda images, labels: (images * torch.nan, labels), r"pixels lie in \[0, 1\]"),
        (lambda images, labels: ((images * 255).byte(), labels), "float tensor"),
        (lambda images, labels: (images, labels[:2]), r"expected shape \(6,\), got \(2,\)"),
    ],
)
def test_bad_batches_are_refused_before_any_step(change: object, message: str) -> None:
    images, labels = change(*make_batch())  # type: ignore[operator]
    with pytest.raises(InvalidInput, match=message):
        craft(images, labels, Explosive(), ball=Linf(RADIUS), step_sizes=(0.1,), generator=torch.Generator())


def test_no_steps_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one step"):
        craft(*make_batch(), Explosive(), ball=Linf(RADIUS), step_sizes=(), generator=torch.Generator())


class Explosive:
    """An objective that must not be reached."""

    def slope(self, inputs: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError

    def losses(self, inputs: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError
