import pytest
import torch
from tests.craft.conftest import make_batch, make_network
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.craft.alignment import Alignment, mean_direction
from withhold.craft.ball import Linf
from withhold.craft.loop import craft
from withhold.craft.objectives import ClassTargeted, Ensemble, ErrorMaximising, ErrorMinimising, LossOfLogits, PerClass
from withhold.craft.steps import constant_steps
from withhold.errors import InvalidInput


def test_class_targeted_is_cross_entropy_towards_the_next_class(
    network: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, labels = batch
    target = torch.tensor([(int(label) + 1) % 4 for label in labels])
    inputs = images.clone().requires_grad_()
    expected = F.cross_entropy(network(inputs), target, reduction="none")
    objective = ClassTargeted(network)
    assert torch.allclose(objective.losses(images, labels), expected)
    assert torch.allclose(objective.slope(images, labels), torch.autograd.grad(expected.mean(), inputs)[0])


def test_the_last_class_targets_the_first() -> None:
    network, (images, _) = make_network("smooth"), make_batch(2)
    losses = ClassTargeted(network).losses(images, torch.tensor([3, 3]))
    assert torch.allclose(losses, F.cross_entropy(network(images), torch.tensor([0, 0]), reduction="none"))


def test_an_ensemble_is_the_mean_of_its_members(batch: tuple[Tensor, Tensor]) -> None:
    members = [ClassTargeted(make_network("smooth", seed=seed)) for seed in range(3)]
    ensemble = Ensemble(tuple(members))
    assert torch.allclose(ensemble.slope(*batch), sum((m.slope(*batch) for m in members), torch.tensor(0.0)) / 3)
    assert torch.allclose(ensemble.losses(*batch), sum((m.losses(*batch) for m in members), torch.tensor(0.0)) / 3)


def test_per_class_gives_each_image_its_own_class_objective() -> None:
    network, (images, labels) = make_network("convolutional"), make_batch(12)
    members = {}
    for label in range(4):
        chosen = labels == label
        direction = mean_direction(network, [(images[chosen], labels[chosen])])
        members[label] = Alignment(network, direction, joint=False)
    objective = PerClass(members)
    slope, losses = objective.slope(images, labels), objective.losses(images, labels)
    for label, member in members.items():
        chosen = labels == label
        assert torch.allclose(slope[chosen], member.slope(images[chosen], labels[chosen]))
        assert torch.allclose(losses[chosen], member.losses(images[chosen], labels[chosen]))


def test_a_network_in_training_mode_is_refused_by_name_of_the_layer() -> None:
    network = make_network("convolutional")
    network[4].train()
    with pytest.raises(InvalidInput, match="4 is training"):
        ClassTargeted(network)


@pytest.mark.parametrize(("objective", "sign"), [(ErrorMaximising, -1), (ErrorMinimising, 1)])
def test_error_maximising_and_minimising_differ_in_the_sign_of_the_cross_entropy(
    objective: type[LossOfLogits], sign: int, network: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, labels = batch
    inputs = images.clone().requires_grad_()
    expected = sign * F.cross_entropy(network(inputs), labels, reduction="none")
    assert torch.allclose(objective(network).losses(images, labels), expected)
    assert torch.allclose(objective(network).slope(images, labels), torch.autograd.grad(expected.mean(), inputs)[0])


@pytest.mark.parametrize(("objective", "sign"), [(ErrorMaximising, -1), (ErrorMinimising, 1)])
def test_on_a_linear_surrogate_the_best_corner_of_the_ball_is_known(objective: type[LossOfLogits], sign: int) -> None:
    """With two classes p_y grows with (w_y - w_other) x, whatever the image: delta = +-eps * sign(w_y - w_other)."""
    linear = nn.Linear(192, 2).double()
    images, labels = make_batch(4)[0], torch.tensor([0, 1, 0, 1])
    delta = craft(
        images,
        labels,
        objective(nn.Sequential(nn.Flatten(), linear).eval()),
        ball=Linf(0.05),
        step_sizes=constant_steps(0.02, 6),
        generator=torch.Generator().manual_seed(0),
    )
    apart = (linear.weight[0] - linear.weight[1]).detach().reshape(3, 8, 8).sign()
    for image, label, moved in zip(images, labels, delta, strict=True):
        corner = sign * 0.05 * (apart if label == 0 else -apart)
        assert torch.allclose(moved, (image + corner).clamp(0, 1) - image, atol=1e-12)


@pytest.mark.parametrize("objective", [ErrorMaximising, ErrorMinimising])
def test_a_network_without_doubt_still_tells_the_sign(objective: type[LossOfLogits]) -> None:
    """p_y rounds to 1 in float32; what is left of the gradient has the right sign everywhere."""
    linear = nn.Linear(12, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[5.0], [-5.0]]) * torch.linspace(0.5, 1, 12))
    images = torch.full((1, 3, 2, 2), 0.5)
    network = nn.Sequential(nn.Flatten(), linear).eval()
    assert network(images).softmax(1)[0, 0] == 1
    sign = 1 if objective is ErrorMaximising else -1
    assert torch.equal(objective(network).slope(images, torch.tensor([0])).sign(), sign * torch.ones(1, 3, 2, 2))
