"""Crafting through margin losses, against the losses spelled out from their papers and differentiated twice."""

from collections.abc import Callable

import pytest
import torch
from tests.craft.conftest import make_batch
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.craft.alignment import (
    Alignment,
    cross_entropy,
    directional_slope,
    mean_direction,
    reverse_cross_entropy,
    slope_by_double_backward,
    with_margin,
)
from withhold.craft.gradient_norm import GradientNorm
from withhold.craft.objectives import ClassTargeted, ErrorMaximising, ErrorMinimising, Margin

SCALE, CLASSES = 8.0, 4


class Cosines(nn.Module):
    """The classification layer of a recogniser: scaled cosines between the embedding and each class's weights."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, features))

    def forward(self, embeddings: Tensor) -> Tensor:
        return SCALE * F.normalize(embeddings) @ F.normalize(self.weight).T


def cosface(logits: Tensor, labels: Tensor) -> Tensor:
    """Wang et al., arXiv 1801.09414, equation 4, with m = 0.35."""
    return logits - 0.35 * SCALE * F.one_hot(labels, CLASSES)


def arcface(logits: Tensor, labels: Tensor) -> Tensor:
    """Deng et al., arXiv 1801.07698, equation 3, with m = 0.5."""
    own = F.one_hot(labels, CLASSES).bool()
    return torch.where(own, SCALE * torch.cos(torch.acos(logits / SCALE) + 0.5), logits)


MARGINS = pytest.mark.parametrize("margin", [cosface, arcface])


@pytest.fixture
def recogniser() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.PReLU(6), nn.Flatten(), nn.Linear(216, 5), nn.BatchNorm1d(5), Cosines(5)
        ).double().eval()  # fmt: skip


def flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


@MARGINS
def test_the_direction_is_the_gradient_of_the_reverse_margin_loss(recogniser: nn.Sequential, margin: Margin) -> None:
    """-log(1 - p_y) with p of the training loss; the class weights are parameters like any other."""
    images, labels = make_batch(6)
    p = margin(recogniser(images), labels).softmax(1)[range(6), labels]
    expected = flat(torch.autograd.grad(-torch.log(1 - p).mean(), list(recogniser.parameters())))
    found = flat(mean_direction(recogniser, [(images, labels)], with_margin(reverse_cross_entropy, margin)))
    assert torch.allclose(found, expected / expected.norm(), atol=1e-12)
    assert found[-20:].norm() > 0.01


@MARGINS
def test_joint_alignment_is_the_cosine_with_the_margin_loss_gradient(recogniser: nn.Sequential, margin: Margin) -> None:
    images, labels = make_batch(6)
    direction = mean_direction(recogniser, [make_batch(4, seed=1)], with_margin(reverse_cross_entropy, margin))
    inputs = images.clone().requires_grad_()
    training_loss = F.cross_entropy(margin(recogniser(inputs), labels), labels)
    g = flat(torch.autograd.grad(training_loss, list(recogniser.parameters()), create_graph=True))
    loss = 1 - F.cosine_similarity(g, flat(direction), dim=0)
    (expected,) = torch.autograd.grad(loss, inputs)
    objective = Alignment(recogniser, direction, margin=margin)
    slope = objective.slope(images, labels)
    assert (slope - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert torch.isclose(objective.losses(images, labels).mean(), loss, rtol=1e-9)
    without = Alignment(recogniser, direction).slope(images, labels)
    assert (without - expected).abs().max() > 1e-3 * expected.abs().max()


@MARGINS
def test_forward_mode_equals_double_backward(recogniser: nn.Sequential, margin: Margin) -> None:
    images, labels = make_batch(6)
    tangent, loss = mean_direction(recogniser, [make_batch(4, seed=1)]), with_margin(cross_entropy, margin)
    slope = directional_slope(recogniser, images, labels, tangent, loss)[1]
    reference = slope_by_double_backward(recogniser, images, labels, tangent, loss)
    assert (slope - reference).abs().max() <= 1e-10 * reference.abs().max()


@MARGINS
def test_the_gradient_norm_is_that_of_the_margin_loss(recogniser: nn.Sequential, margin: Margin) -> None:
    images, labels = make_batch(6)
    inputs = images.clone().requires_grad_()
    training_loss = F.cross_entropy(margin(recogniser(inputs), labels), labels)
    norm = flat(torch.autograd.grad(training_loss, list(recogniser.parameters()), create_graph=True)).norm()
    objective = GradientNorm(recogniser, margin=margin)
    assert torch.isclose(objective.losses(images, labels).mean(), norm, rtol=1e-9)
    (expected,) = torch.autograd.grad(norm, inputs)
    assert torch.allclose(objective.slope(images, labels), expected, atol=1e-10)


@MARGINS
@pytest.mark.parametrize(
    ("objective", "sign", "shift"), [(ClassTargeted, 1, 1), (ErrorMaximising, -1, 0), (ErrorMinimising, 1, 0)]
)
def test_first_order_objectives_have_the_margin_of_the_class_they_speak_of(
    recogniser: nn.Sequential, margin: Margin, objective: Callable[..., ClassTargeted], sign: int, shift: int
) -> None:
    images, labels = make_batch(6)
    spoken_of = (labels + shift) % CLASSES
    inputs = images.clone().requires_grad_()
    expected = sign * F.cross_entropy(margin(recogniser(inputs), spoken_of), spoken_of, reduction="none")
    crafted = objective(recogniser, margin=margin)
    assert torch.allclose(crafted.losses(images, labels), expected)
    assert torch.allclose(crafted.slope(images, labels), torch.autograd.grad(expected.mean(), inputs)[0])
    assert not torch.allclose(objective(recogniser).losses(images, labels), expected, rtol=1e-3)
