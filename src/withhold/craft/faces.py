"""Aligned faces: what a recogniser sees of a photograph, differentiable in the photograph's pixels."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from withhold.craft.augment import Augmentation, Unchanged

Square = tuple[float, float, float, float]
"""A square in an image, upright or turned: x and y of its first corner, and the x and y along its upper edge.

In pixels from the image's upper left corner, so that the first pixel's centre is (0.5, 0.5). The left edge is the
upper one turned by 90 degrees: (x, y) becomes (-y, x).
"""


@dataclass(frozen=True, slots=True)
class AlignedFaces:
    """The views of another augmentation, of the squares in which faces lie: one view for each face.

    A similarity transform maps each square to a crop of one size, as face recognisers are trained on (Deng et al.,
    "ArcFace", arXiv 1801.07698). Where it shrinks, every pixel of the crop is the mean of bilinear samples that lie at
    most a pixel apart: a perturbation that averages out in the crop earns nothing. Outside of the image all is black.

    Attributes:
        faces: Number of the image and square in it, one for each face.
        side: Of the crops, in pixels.
        views: Of the crops.
    """

    faces: tuple[tuple[int, Square], ...]
    side: int = 112
    views: Augmentation = field(default_factory=Unchanged)

    def __call__(self, images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "v c s t"]:
        """Draw one random view of each face."""
        return self.views(self.crops(images), generator)

    def plain(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "v c s t"]:
        """Return the view of each face that a trained network is tested on."""
        return self.views.plain(self.crops(images))

    def crops(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "v c s s"]:
        """Cut the faces out of their images, in the order of `faces`."""
        # Unbound, as the slope of an indexed image would be as large as the batch.
        single = images.unbind()
        return torch.stack([self._crop(single[index], square) for index, square in self.faces])

    def region(self, images: Float[Tensor, "b c h w"]) -> Bool[Tensor, "b 1 h w"]:
        """Tell which pixels have their centre in one of the squares."""
        height, width = images.shape[2:]
        inside = torch.zeros(len(images), 1, height, width, dtype=torch.bool)
        row, column = (torch.arange(size, dtype=torch.float64) + 0.5 for size in (height, width))
        for index, (left, top, across, down) in self.faces:
            x, y, area = column[None, :] - left, row[:, None] - top, across**2 + down**2
            along, below = (x * across + y * down) / area, (y * across - x * down) / area
            inside[index, 0] |= (along >= 0) & (along <= 1) & (below >= 0) & (below <= 1)
        return inside.to(images.device)

    def _crop(self, image: Float[Tensor, "c h w"], square: Square) -> Float[Tensor, "c s s"]:
        left, top, across, down = square
        samples = max(1, math.ceil(math.hypot(across, down) / self.side - 1e-9))
        steps = self.side * samples
        place = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        along, below = place[None, :], place[:, None]
        x, y = left + across * along - down * below, top + down * along + across * below
        height, width = image.shape[1:]
        grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=2).to(image)  # it spans [-1, 1]
        sampled = F.grid_sample(image[None], grid[None], padding_mode="zeros", align_corners=False)
        return F.avg_pool2d(sampled, samples)[0]
