"""A network that puts out perturbations in a single pass, bounded by construction.

Beside the image and its label it sees one slope of the objective, as a step of crafting does. A generator that sees the
image alone must know the surrogate by heart to find a direction, and learns that slowly.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.craft import Objective
from withhold.errors import InvalidInput

COLOURS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """What a generator is built from.

    Attributes:
        classes: Labels that it is told.
        radius: Largest perturbation, a fraction of the pixel range.
        width: Channels between its layers.
        blocks: Residual blocks.
        stride: Side of the squares of pixels that become one position; it computes at 1/stride of the resolution.
    """

    classes: int
    radius: float
    width: int = 64
    blocks: int = 4
    stride: int = 2

    def __post_init__(self) -> None:
        if min(self.classes, self.width, self.blocks, self.stride) < 1 or not 0 < self.radius <= 1:
            msg = (
                "a generator needs classes, width, blocks and stride of at least 1 and a radius above 0 and at most 1; "
                f"got {self}"
            )
            raise InvalidInput(msg)


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut; what the label says is added in between."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.label = nn.Embedding(classes, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Map (b, width, h, w) to the same shape."""
        inner = F.relu(self.norm1(self.conv1(features)) + self.label(labels)[:, :, None, None])
        return F.relu(features + self.norm2(self.conv2(inner)))


class Generator(nn.Module):
    """Maps images, slopes and labels to perturbations radius * tanh(.), so that no weights can exceed the radius.

    Fully convolutional, in the manner of Poursaeed et al., "Generative Adversarial Perturbations", arXiv 1712.02328,
    and conditional on the label. It corrects a step against the slope. Squares of pixels are unshuffled into channels
    first and shuffled back at the end.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        channels = COLOURS * shape.stride**2
        self.first = nn.Conv2d(2 * channels, shape.width, 3, padding=1)
        self.label = nn.Embedding(shape.classes, shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.classes) for _ in range(shape.blocks))
        self.last = nn.Conv2d(shape.width, channels, 3, padding=1)

    def forward(
        self, images: Float[Tensor, "b 3 h w"], slopes: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Return a perturbation of each image, from -radius to radius.

        Args:
            images: In [0, 1], with sides of any length.
            slopes: Of the objective at the images, on any scale; see `slopes_at`.
        """
        height, width = images.shape[2:]
        stride = self.shape.stride
        size = slopes.abs().mean((1, 2, 3), keepdim=True).clamp_min(torch.finfo(slopes.dtype).tiny)
        slopes = torch.tanh(slopes / size)
        seen = torch.cat([2 * images - 1, slopes], 1)
        padded = F.pad(seen, (0, -width % stride, 0, -height % stride), mode="replicate")
        features = self.first(F.pixel_unshuffle(padded, stride))
        features = F.relu(features + self.label(labels)[:, :, None, None])
        for block in self.blocks:
            features = block(features, labels)
        raw = F.pixel_shuffle(self.last(features), stride)[:, :, :height, :width]
        return self.shape.radius * torch.tanh(raw - slopes)


def slopes_at(
    objective: Objective, images: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"], side: int
) -> Float[Tensor, "b 3 h w"]:
    """Return the slope of an objective at images of any size, seen whole as squares of the surrogate's input.

    Args:
        side: Of that input; images that are squares of this side are seen as they are.
    """
    if images.shape[2:] == (side, side):
        return objective.slope(images, labels)
    images = images.detach().requires_grad_()
    inputs = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    (slopes,) = torch.autograd.grad(inputs, images, objective.slope(inputs.detach(), labels))
    return slopes
