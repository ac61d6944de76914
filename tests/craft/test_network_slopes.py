"""The alignment gradient and folding on narrow versions of the built-in convolutional networks."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import nn

from withhold.craft.alignment import (
    cross_entropy,
    directional_slope,
    mean_direction,
    slope_by_double_backward,
    with_margin,
)
from withhold.craft.folding import FoldedConvolution, fold_batch_norm
from withhold.networks.classifier import Margin
from withhold.networks.densenet import DenseNet
from withhold.networks.googlenet import GoogLeNet
from withhold.networks.iresnet import IResNet, recogniser
from withhold.networks.margins import HEADS
from withhold.networks.mobilenet import MobileNetV2
from withhold.networks.table import build
from withhold.networks.vgg import VGG

# Norms that stand directly behind a convolution: all but those that DenseNet and IResNet put before one and at the end.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "vgg": (lambda: VGG(3, (1, 1, 1, 2, 1), width=4), 32, 6),
    "googlenet": (lambda: GoogLeNet(3, stem="cifar", narrowing=8), 8, 1 + 9 * 7),
    "densenet": (lambda: DenseNet(3, (2, 1, 2), growth=4, stem="cifar"), 8, 5),
    "densenet with imagenet stem": (lambda: DenseNet(3, (1, 1), growth=4, stem="imagenet"), 16, 3),
    "mobilenet": (lambda: MobileNetV2(3, stem="cifar", narrowing=8), 8, 2 + 17 * 3 + 4),
    "iresnet": (lambda: recogniser(IResNet(32, (1, 2, 1, 1), width=4, embedding=8, dropout=0.4), 3), 32, 1 + 4 * 3 + 2),
}


def lived_in(make: Callable[[], nn.Module]) -> nn.Module:
    """Give batch norms a history of their own, so that their values matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make().double()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1, 0.3)
                nn.init.normal_(layer.bias, 0, 0.3)
        network.train()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.momentum = 1.0
        network(torch.rand(4, 3, 32, 32).double())
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_mode_equals_double_backward_and_folding_changes_neither(name: str) -> None:
    make, side, foldable = NETWORKS[name]
    network = lived_in(make)
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([0, 1, 2, 1])
    direction = mean_direction(network, [(images, labels)])
    reference = slope_by_double_backward(network, images, labels, direction)
    slope = directional_slope(network, images, labels, direction)[1]
    assert reference.abs().max() > 0
    assert (slope - reference).abs().max() <= 1e-9 * reference.abs().max()

    folded = fold_batch_norm(network)
    assert sum(isinstance(layer, FoldedConvolution) for layer in folded.modules()) == foldable
    assert torch.allclose(folded(images), network(images), rtol=1e-9)
    same = directional_slope(folded, images, labels, mean_direction(folded, [(images, labels)]))[1]
    assert (same - reference).abs().max() <= 1e-9 * reference.abs().max()


@pytest.mark.parametrize("head", HEADS)
def test_the_same_holds_through_the_heads_and_margins_of_face_recognisers(head: str) -> None:
    network = lived_in(lambda: build("iresnet10-narrow", 3, input_size=32, head=head))
    margin = cast("Margin", network.margin)
    loss = with_margin(cross_entropy, margin)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([0, 1, 2, 1])
    # Not the reverse cross-entropy's: an untrained network misses every margin, where that gradient nearly vanishes.
    direction = mean_direction(network, [(images, labels)], loss)
    reference = slope_by_double_backward(network, images, labels, direction, loss)
    folded = fold_batch_norm(network)
    assert any(isinstance(layer, FoldedConvolution) for layer in folded.modules())
    for same in (network, folded):
        again = mean_direction(same, [(images, labels)], loss)
        slope = directional_slope(same, images, labels, again, loss)[1]
        assert (slope - reference).abs().max() <= 1e-9 * reference.abs().max()
    if head != "softmax":
        plain = slope_by_double_backward(network, images, labels, direction)
        assert (plain - reference).abs().max() > 1e-2 * reference.abs().max()
