import pytest
import torch
from tests.craft.conftest import make_batch, make_network
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from withhold.craft.alignment import (
    Alignment,
    Direction,
    cross_entropy,
    directional_slope,
    gradient,
    inner,
    mean_direction,
    reverse_cross_entropy,
    slope_by_double_backward,
)
from withhold.errors import InvalidInput

Batch = tuple[Tensor, Tensor]


def random_direction(network: nn.Module, seed: int = 3) -> Direction:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in network.parameters()]
    norm = torch.cat([part.flatten() for part in parts]).norm()
    return tuple(part / norm for part in parts)


def cosine_by_autograd(network: nn.Module, inputs: Tensor, labels: Tensor, direction: Direction) -> Tensor:
    """1 - cos(g, t), spelled out with one flat vector: independent of the code under test."""
    loss = F.cross_entropy(network(inputs), labels)
    g = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    flat_g, flat_t = torch.cat([part.flatten() for part in g]), torch.cat([part.flatten() for part in direction])
    return 1 - F.cosine_similarity(flat_g, flat_t, dim=0)


def test_reverse_cross_entropy_is_minus_log_of_one_minus_p() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1])
    p = logits.softmax(1)
    losses = reverse_cross_entropy(logits, labels)
    assert torch.allclose(losses, -torch.log(1 - p[[0, 1], labels]), rtol=1e-12)
    (slope,) = torch.autograd.grad(losses.sum(), logits)
    weight = (p[[0, 1], labels] / (1 - p[[0, 1], labels]))[:, None]
    assert torch.allclose(slope, weight * (F.one_hot(labels, 3) - p), rtol=1e-10)


def test_reverse_cross_entropy_stays_exact_where_the_probability_rounds_to_one() -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = reverse_cross_entropy(logits, torch.tensor([0]))
    assert loss.item() == 200.0
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    assert slope.tolist() == [[1.0, -1.0]]


def test_forward_mode_equals_double_backward(network: nn.Module, batch: Batch) -> None:
    tangent = random_direction(network)
    rates, slope = directional_slope(network, *batch, tangent)
    reference = slope_by_double_backward(network, *batch, tangent)
    assert (slope - reference).abs().max() <= 1e-10 * reference.abs().max()
    assert torch.isclose(rates.mean(), inner(gradient(network, *batch), tangent), rtol=1e-10)


def test_rates_are_each_images_own(network: nn.Module, batch: Batch) -> None:
    tangent = random_direction(network)
    rates, _ = directional_slope(network, *batch, tangent)
    alone = [inner(gradient(network, batch[0][[j]], batch[1][[j]]), tangent) for j in range(len(rates))]
    assert torch.allclose(rates, torch.stack(alone), rtol=1e-9)


def test_joint_slope_is_the_gradient_of_one_cosine_over_all_parameters(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    direction = random_direction(network)
    inputs = images.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        loss = cosine_by_autograd(network, inputs, labels, direction)
        (reference,) = torch.autograd.grad(loss, inputs)
    objective = Alignment(network, direction)
    slope = objective.slope(images, labels)
    assert (slope - reference).abs().max() <= 1e-9 * reference.abs().max()
    assert torch.isclose(objective.losses(images, labels).mean(), loss, rtol=1e-9)


def test_joint_slope_agrees_with_finite_differences() -> None:
    network, (images, labels) = make_network("smooth"), make_batch(3)
    direction = random_direction(network)
    slope = Alignment(network, direction).slope(images, labels)
    step = 1e-6
    for index in [(0, 0, 0, 0), (1, 2, 4, 3), (2, 1, 7, 7)]:
        shifted = images.clone()
        shifted[index] += step
        above = cosine_by_autograd(network, shifted, labels, direction)
        shifted[index] -= 2 * step
        below = cosine_by_autograd(network, shifted, labels, direction)
        assert torch.isclose(slope[index], (above - below) / (2 * step), rtol=1e-5, atol=1e-9)


def test_decoupled_slope_of_an_image_does_not_depend_on_its_company(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    objective = Alignment(network, random_direction(network), joint=False)
    together = objective.slope(images, labels)
    for j in range(len(images)):
        alone = objective.slope(images[[j]], labels[[j]]) / len(images)
        assert torch.allclose(together[[j]], alone, rtol=1e-9, atol=1e-14)


def test_joint_and_decoupled_signs_agree_where_proposition_1_says_so() -> None:
    """d cos is parallel to <t, dg_j> - cos d|g|: wherever the second term is smaller, the signs are equal."""
    network, (images, labels) = make_network("smooth"), make_batch(8)
    direction = mean_direction(network, [(images, labels)])
    joint, decoupled = Alignment(network, direction), Alignment(network, direction, joint=False)
    g = gradient(network, images, labels)
    norm = inner(g, g).sqrt()
    d_norm = directional_slope(network, images, labels, tuple(part / norm for part in g))[1]
    d_inner = -decoupled.slope(images, labels)
    covered = d_norm.abs() < d_inner.abs()
    assert covered.float().mean() > 0.05
    assert torch.equal(joint.slope(images, labels).sign()[covered], decoupled.slope(images, labels).sign()[covered])
    assert joint.sign_agreement(images, labels) >= covered.float().mean().item()


def test_mean_direction_does_not_depend_on_how_the_set_is_cut(network: nn.Module) -> None:
    images, labels = make_batch(10)
    whole = mean_direction(network, [(images, labels)])
    cut = mean_direction(network, [(images[:3], labels[:3]), (images[3:4], labels[3:4]), (images[4:], labels[4:])])
    assert torch.isclose(inner(whole, whole), torch.tensor(1.0, dtype=torch.float64))
    assert torch.isclose(inner(whole, cut), torch.tensor(1.0, dtype=torch.float64), rtol=1e-12)
    other_loss = mean_direction(network, [(images, labels)], cross_entropy)
    assert inner(whole, other_loss) < 0  # unlearning a label opposes learning it


def test_a_direction_needs_a_gradient() -> None:
    network = make_network("smooth")
    with pytest.raises(InvalidInput, match=r"norm is 0"):
        mean_direction(network, [])
    images, labels = make_batch(2)
    with pytest.raises(InvalidInput, match="norm is nan"):
        mean_direction(network, [(images * torch.nan, labels)])


def test_a_direction_of_another_network_is_refused() -> None:
    with pytest.raises(InvalidInput, match="one tensor for each"):
        Alignment(make_network("smooth"), random_direction(make_network("convolutional")))


def test_a_network_in_training_mode_is_refused() -> None:
    network = make_network("convolutional").train()
    with pytest.raises(InvalidInput, match=r"call network\.eval\(\)"):
        Alignment(network, random_direction(network))


def test_a_network_without_any_gradient_has_slope_zero_not_nan() -> None:
    network, (images, _) = make_network("smooth"), make_batch(2)
    direction = random_direction(network)
    linear = network[3]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
        linear.bias[0] = 1e4
    slope = Alignment(network, direction).slope(images, torch.zeros(2, dtype=torch.int64))
    assert torch.equal(slope, torch.zeros_like(slope))
