"""Residual networks: a small ResNet-9 for CPUs, the basic-block family, and the CIFAR ResNet-20 of He et al. (2016)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Stem = Literal["cifar", "imagenet"]


def _conv(inputs: int, outputs: int, stride: int = 1, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)


class ConvUnit(nn.Module):
    """3 x 3 convolution, batch norm, ReLU; with `pool`, 2 x 2 max-pooling follows the convolution directly.

    Pooling before the norm halves the work of norm and ReLU.
    """

    def __init__(self, inputs: int, outputs: int, *, pool: bool = False) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs)
        self.norm = nn.BatchNorm2d(outputs)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h, w), or to half the side with pooling."""
        x = self.conv(x)
        return F.relu(self.norm(F.max_pool2d(x, 2) if self.pool else x))


class ResidualPair(nn.Module):
    """x + unit(unit(x))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvUnit(channels, channels)
        self.second = ConvUnit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, h, w) to the same shape."""
        residual: Tensor = self.second(self.first(x))
        return x + residual


class ResNet9(nn.Module):
    """The nine-layer network of the CIFAR-10 speed runs (D. Page, "How to train your ResNet"), at any width."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvUnit(3, width),
            ConvUnit(width, 2 * width, pool=True),
            ResidualPair(2 * width),
            ConvUnit(2 * width, 4 * width, pool=True),
            ConvUnit(4 * width, 8 * width, pool=True),
            ResidualPair(8 * width),
        )
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, h, w), sides of 8 and more, to logits (b, classes)."""
        # amax and not AdaptiveMaxPool2d: the gradient of the latter is not deterministic on CUDA.
        logits: Tensor = self.linear(self.features(x).amax(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut; where the shape changes the shortcut is a strided 1 x 1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(_conv(inputs, outputs, stride, side=1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.downsample(x))


class ResNet(nn.Module):
    """Basic-block ResNet with four stages; parameter names are those of torchvision's ImageNet networks.

    Args:
        blocks: Blocks in each of the four stages.
        width: Channels of the first stage; each further stage doubles them.
        stem: `cifar` is one 3 x 3 convolution at full resolution; `imagenet` reduces the side by four first.
    """

    def __init__(self, classes: int, blocks: Sequence[int], *, width: int = 64, stem: Stem) -> None:
        super().__init__()
        self.conv1 = _conv(3, width) if stem == "cifar" else _conv(3, width, stride=2, side=7)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool: nn.Module = nn.Identity() if stem == "cifar" else nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        stages = [
            nn.Sequential(
                BasicBlock(inputs, outputs, 1 if index == 0 else 2),
                *(BasicBlock(outputs, outputs, 1) for _ in range(count - 1)),
            )
            for index, (inputs, outputs, count) in enumerate(zip(widths, widths[1:], blocks, strict=False))
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, h, w) to logits (b, classes)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class PaddedShortcut(nn.Module):
    """Option A of He et al.: every second pixel, and zeros for the new channels; nothing to learn."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.each_side = new_channels // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c + new_channels, h / 2, w / 2)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.each_side, self.each_side))


class PlainBlock(nn.Module):
    """Basic block of the CIFAR networks of He et al., without parameters in its shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity() if inputs == outputs else PaddedShortcut(outputs - inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


class CifarResNet(nn.Module):
    """The 6n + 2 layer network for 32 px of He et al. (2016), section 4.2; parameter names as in common checkpoints."""

    def __init__(self, classes: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = _conv(3, 16)
        self.bn1 = nn.BatchNorm2d(16)
        stages = [
            nn.Sequential(
                PlainBlock(inputs, outputs, stride), *(PlainBlock(outputs, outputs, 1) for _ in range(blocks - 1))
            )
            for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, h, w) to logits (b, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(torch.mean(x, dim=(2, 3)))
        return logits
