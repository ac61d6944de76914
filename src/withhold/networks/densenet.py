"""DenseNet with bottlenecks and compression (Huang et al., 2017): DenseNet-121 for CIFAR and for ImageNet."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withhold.networks.convolution import ConvNormReLU
from withhold.networks.resnet import Stem

DENSENET121 = (6, 12, 24, 16)
"""Layers in each of the four blocks."""


class NormReluConv(nn.Module):
    """Batch norm and ReLU before a convolution: each reader of the shared features scales them in its own way."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h, w)."""
        mapped: Tensor = self.conv(F.relu(self.norm(x)))
        return mapped


class DenseLayer(nn.Module):
    """Append `growth` new channels, made of all channels so far by way of a bottleneck four times as wide."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.reduce = NormReluConv(inputs, 4 * growth, 1)
        self.grow = NormReluConv(4 * growth, growth, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, inputs + growth, h, w)."""
        return torch.cat([x, self.grow(self.reduce(x))], dim=1)


class DenseNet(nn.Module):
    """Dense blocks, transitions between them that halve channels and side, the mean over all pixels, one linear layer.

    Args:
        layers: Dense layers in each block.
        growth: Channels that a layer adds; the stem has twice as many.
        stem: `cifar` is one 3 x 3 convolution at full resolution; `imagenet` reduces the side by four first.
    """

    def __init__(self, classes: int, layers: Sequence[int] = DENSENET121, *, growth: int = 32, stem: Stem) -> None:
        super().__init__()
        channels = 2 * growth
        self.stem = _stem(channels, stem)
        stages: list[nn.Module] = []
        for index, count in enumerate(layers):
            if index > 0:
                stages.append(nn.Sequential(NormReluConv(channels, channels // 2, 1), nn.AvgPool2d(2)))
                channels //= 2
            stages.append(nn.Sequential(*(DenseLayer(channels + step * growth, growth) for step in range(count))))
            channels += count * growth
        self.features = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, h, w) to logits (b, classes)."""
        x = F.relu(self.norm(self.features(self.stem(x))))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stem(channels: int, stem: Stem) -> nn.Module:
    if stem == "imagenet":
        return nn.Sequential(ConvNormReLU(3, channels, 7, stride=2), nn.MaxPool2d(3, 2, 1))
    # Bare: the first dense layer begins with norm and ReLU.
    return nn.Conv2d(3, channels, 3, padding=1, bias=False)
