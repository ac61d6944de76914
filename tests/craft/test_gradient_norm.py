import pytest
import torch
from tests.craft.conftest import make_batch, make_network
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from withhold.craft import GradientNorm, Linf, constant_steps, craft
from withhold.craft.objectives import Objective
from withhold.errors import InvalidInput

Batch = tuple[Tensor, Tensor]


def norm_by_autograd(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """|g| by double backward over one flat vector: independent of the code under test."""
    loss = F.cross_entropy(network(inputs), labels)
    parts = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    return torch.cat([part.flatten() for part in parts]).square().sum().sqrt()


def test_the_slope_is_that_of_the_norm_by_double_backward(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    inputs = images.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (expected,) = torch.autograd.grad(norm_by_autograd(network, inputs, labels), inputs)
    slope = GradientNorm(network).slope(images, labels)
    assert ((slope - expected).norm() / expected.norm()).item() <= 1e-6
    assert ((-slope - expected).norm() / expected.norm()).item() > 1


def test_the_losses_are_shares_that_average_to_the_norm(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    losses = GradientNorm(network).losses(images, labels)
    assert losses.shape == labels.shape
    assert torch.allclose(losses.mean(), norm_by_autograd(network, images, labels))
    for image, label, alone in zip(images, labels, losses, strict=True):
        single = GradientNorm(network).losses(image[None], label[None])
        assert torch.allclose(single, norm_by_autograd(network, image[None], label[None]))
        assert alone <= single + 1e-12, "a share is a projection of the image's own gradient"


def test_crafting_shortens_the_gradient(generator: torch.Generator) -> None:
    network, (images, labels) = make_network("convolutional"), make_batch(4)
    delta = craft(
        images,
        labels,
        GradientNorm(network),
        ball=Linf(0.1),
        step_sizes=constant_steps(0.04, 4),
        generator=generator,
    )
    assert norm_by_autograd(network, images + delta, labels) < 0.9 * norm_by_autograd(network, images, labels)


def test_a_batch_without_a_gradient_has_a_slope_of_zero() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2, bias=False)).double().eval()
    images, labels = torch.zeros(2, 3, 8, 8).double(), torch.tensor([0, 1])  # g is a multiple of each image
    objective = GradientNorm(network)
    assert torch.equal(objective.slope(images, labels), torch.zeros_like(images))
    assert torch.equal(objective.losses(images, labels), torch.zeros(2).double())


def test_it_is_an_objective_of_a_frozen_network() -> None:
    assert isinstance(GradientNorm(make_network("smooth")), Objective)
    with pytest.raises(InvalidInput, match="evaluation mode"):
        GradientNorm(make_network("smooth").train())
