"""VGG with batch norm (Simonyan and Zisserman, 2015), in the form that CIFAR benchmarks use."""

from collections.abc import Sequence

from torch import Tensor, nn

from withhold.networks.convolution import ConvNormReLU

VGG19 = (2, 2, 4, 4, 4)
"""Convolutions in each of the five blocks of VGG-19."""


class VGG(nn.Module):
    """Five blocks of 3 x 3 convolutions, each halving the side by max-pooling, and one linear layer after their mean.

    The three wide linear layers of the original are one here, as usual for CIFAR. The convolutions are the same for
    every side of 32 and more: the original for 224 px has no stem that reduces the side either.

    Args:
        convolutions: Count in each of the five blocks.
        width: Channels of the first block; each further block doubles them, up to eight times as many.
    """

    def __init__(self, classes: int, convolutions: Sequence[int] = VGG19, *, width: int = 64) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.features = nn.Sequential(
            *(
                _block(inputs, outputs, count)
                for inputs, outputs, count in zip(widths[:-1], widths[1:], convolutions, strict=True)
            )
        )
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, h, w), sides of 32 and more, to logits (b, classes)."""
        logits: Tensor = self.linear(self.features(x).mean(dim=(2, 3)))
        return logits


def _block(inputs: int, outputs: int, count: int) -> nn.Sequential:
    further = (ConvNormReLU(outputs, outputs) for _ in range(count - 1))
    return nn.Sequential(ConvNormReLU(inputs, outputs), *further, nn.MaxPool2d(2))
