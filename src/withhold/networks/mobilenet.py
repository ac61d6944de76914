"""MobileNetV2 (Sandler et al., 2018), in the form that CIFAR benchmarks use."""

from typing import NamedTuple

from torch import Tensor, nn

from withhold.networks.convolution import ConvNormReLU
from withhold.networks.resnet import Stem


class Row(NamedTuple):
    """One row of table 2 of the paper: `blocks` blocks, the first of them with the stride."""

    expansion: int
    outputs: int
    blocks: int
    stride: int


ROWS = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand by a 1 x 1 convolution, filter each channel by itself, project linearly; a shortcut where the stride is 1.

    As in the common CIFAR version, and unlike the paper, a shortcut between different numbers of channels is a 1 x 1
    convolution, and an expansion by one is a convolution too.
    """

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.expand = ConvNormReLU(inputs, inner, 1)
        self.filter = ConvNormReLU(inner, inner, stride=stride, groups=inner)
        self.project = _linear(inner, outputs)
        self.shortcut: nn.Module | None = None
        if stride == 1:
            self.shortcut = nn.Identity() if inputs == outputs else _linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, ceil(h / stride), ceil(w / stride))."""
        projected: Tensor = self.project(self.filter(self.expand(x)))
        return projected if self.shortcut is None else projected + self.shortcut(x)


class MobileNetV2(nn.Module):
    """A stem, seventeen inverted residuals, a 1 x 1 convolution to 1280 channels, the mean, one linear layer.

    ReLU takes the place of the paper's ReLU6, which is meant for low precision.

    Args:
        stem: `imagenet` is the paper's; `cifar` reduces the side by eight in all instead of 32, since the first
            convolution and the second row of the table have stride 1.
        narrowing: Divides all widths; 1, 2, 4 or 8.
    """

    def __init__(self, classes: int, *, stem: Stem, narrowing: int = 1) -> None:
        super().__init__()
        channels = 32 // narrowing
        self.stem = ConvNormReLU(3, channels, stride=1 if stem == "cifar" else 2)
        blocks = []
        for index, row in enumerate(ROWS):
            outputs = row.outputs // narrowing
            stride = 1 if stem == "cifar" and index == 1 else row.stride
            for number in range(row.blocks):
                step = stride if number == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, expansion=row.expansion, stride=step))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = ConvNormReLU(channels, 1280 // narrowing, 1)
        self.linear = nn.Linear(1280 // narrowing, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, h, w) to logits (b, classes)."""
        x = self.last(self.blocks(self.stem(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _linear(inputs: int, outputs: int) -> nn.Sequential:
    """Build a 1 x 1 convolution with batch norm and no activation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
