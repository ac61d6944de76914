"""GoogLeNet with batch norm (Szegedy et al., 2015), in the form that CIFAR benchmarks use: no auxiliary classifiers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from withhold.networks.convolution import ConvNormReLU
from withhold.networks.resnet import Stem


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels of an inception module: one row of table 1 of the paper.

    Attributes:
        reduce3: Of the 1 x 1 convolution before the 3 x 3 one.
        reduce5: Of the 1 x 1 convolution before the 5 x 5 one.
        pooled: Of the 1 x 1 convolution after pooling.
    """

    conv1: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    pooled: int

    @property
    def outputs(self) -> int:
        """Channels of the four branches together."""
        return self.conv1 + self.conv3 + self.conv5 + self.pooled

    def divided(self, divisor: int) -> "Widths":
        """Divide all of them by a divisor of 8, which divides every number of the table."""
        numbers = (self.conv1, self.reduce3, self.conv3, self.reduce5, self.conv5, self.pooled)
        return Widths(*(number // divisor for number in numbers))


STAGES = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)
"""Modules 3a to 5b; max-pooling stands between the stages."""


class Inception(nn.Module):
    """Convolutions of three sizes and pooling side by side; two 3 x 3 convolutions stand for the 5 x 5 one."""

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        self.branch1 = ConvNormReLU(inputs, widths.conv1, 1)
        self.branch3 = nn.Sequential(
            ConvNormReLU(inputs, widths.reduce3, 1), ConvNormReLU(widths.reduce3, widths.conv3)
        )
        self.branch5 = nn.Sequential(
            ConvNormReLU(inputs, widths.reduce5, 1),
            ConvNormReLU(widths.reduce5, widths.conv5),
            ConvNormReLU(widths.conv5, widths.conv5),
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvNormReLU(inputs, widths.pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, widths.outputs, h, w)."""
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.pool(x)], dim=1)


class GoogLeNet(nn.Module):
    """Nine inception modules in three stages, the mean over all pixels, one linear layer.

    Args:
        stem: `cifar` is one 3 x 3 convolution at full resolution; `imagenet` reduces the side by eight first.
        narrowing: Divides all widths; 1, 2, 4 or 8.
    """

    def __init__(self, classes: int, *, stem: Stem, narrowing: int = 1) -> None:
        super().__init__()
        self.stem = _imagenet_stem(narrowing) if stem == "imagenet" else ConvNormReLU(3, 192 // narrowing)
        channels, stages = 192 // narrowing, []
        for rows in STAGES:
            modules = []
            for widths in (row.divided(narrowing) for row in rows):
                modules.append(Inception(channels, widths))
                channels = widths.outputs
            stages.append(nn.Sequential(*modules))
        self.stage3, self.stage4, self.stage5 = stages
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, h, w) to logits (b, classes)."""
        x = self.pool(self.stage3(self.stem(x)))
        x = self.stage5(self.pool(self.stage4(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _imagenet_stem(narrowing: int) -> nn.Sequential:
    width, outputs = 64 // narrowing, 192 // narrowing
    return nn.Sequential(
        ConvNormReLU(3, width, 7, stride=2),
        nn.MaxPool2d(3, 2, 1),
        ConvNormReLU(width, width, 1),
        ConvNormReLU(width, outputs),
        nn.MaxPool2d(3, 2, 1),
    )
