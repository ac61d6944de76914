import pytest
import torch
from tests.craft.conftest import make_batch, make_network
from torch import Tensor, nn

from withhold.craft import ClassTargeted, fold_batch_norm, mean_direction
from withhold.craft.folding import FoldedConvolution
from withhold.errors import InvalidInput


def test_a_folded_network_is_the_same_function_of_the_same_parameters() -> None:
    network, (images, labels) = make_network("convolutional"), make_batch()
    folded = fold_batch_norm(network)
    assert sum(isinstance(layer, FoldedConvolution) for layer in folded.modules()) == 2
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.children())
    assert torch.allclose(folded(images), network(images), rtol=1e-10)
    assert {id(p) for p in folded.parameters()} == {id(p) for p in network.parameters()}
    expected = ClassTargeted(network).slope(images, labels)
    assert torch.allclose(ClassTargeted(folded).slope(images, labels), expected, rtol=1e-9)


def test_directions_agree_parameter_by_parameter() -> None:
    network, batch = make_network("convolutional"), make_batch()
    folded = fold_batch_norm(network)
    by_parameter = dict(zip(map(id, network.parameters()), mean_direction(network, [batch]), strict=True))
    for parameter, part in zip(folded.parameters(), mean_direction(folded, [batch]), strict=True):
        assert torch.allclose(part, by_parameter[id(parameter)], rtol=1e-9, atol=1e-14)


class Shared(nn.Module):
    """One norm after two convolutions, and a convolution whose output is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean = torch.tensor([0.3, -0.2, 0.1])

    def forward(self, x: Tensor) -> Tensor:
        twice: Tensor = self.second(self.norm(self.first(x)))
        logits: Tensor = self.norm(twice) + twice
        return logits.flatten(1)[:, :4]


def test_shared_layers_are_folded_only_where_it_is_the_same() -> None:
    network = Shared().double().eval()
    images, _ = make_batch()
    assert torch.allclose(fold_batch_norm(network)(images), network(images), rtol=1e-10)


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


def test_a_network_that_cannot_be_traced_is_returned_as_it_is() -> None:
    network = DataDependent().eval()
    assert fold_batch_norm(network) is network


def test_only_frozen_networks_are_folded() -> None:
    with pytest.raises(InvalidInput, match="evaluation mode"):
        fold_batch_norm(make_network("convolutional").train())
