import pytest
import torch
from tests.craft.conftest import make_batch, make_network
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.craft.alignment import Alignment, mean_direction
from withhold.craft.objectives import ClassTargeted, Ensemble, PerClass
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
