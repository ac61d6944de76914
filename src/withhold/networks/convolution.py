"""The unit that the convolutional networks after 2015 are made of."""

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU (Ioffe and Szegedy, 2015).

    Args:
        side: Of the kernel, odd; the padding keeps the resolution where the stride is 1.
        groups: Channel groups that the convolution keeps apart; `inputs` makes it depthwise.
    """

    def __init__(self, inputs: int, outputs: int, side: int = 3, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        # No bias: the norm would subtract it again.
        self.conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, ceil(h / stride), ceil(w / stride))."""
        return F.relu(self.norm(self.conv(x)))
