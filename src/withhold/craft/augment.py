"""The views of an image that a trainer would see, differentiable in the image and redrawn at every step."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

TEST_SHARE = 7 / 8
"""Side of the central square that a network is tested on, as a share of the shorter side: 224 of 256."""


@runtime_checkable
class Augmentation(Protocol):
    """Turns images into network inputs: one view of each, or of each face in it (`AlignedFaces`)."""

    def __call__(self, images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "v c s t"]:
        """Draw one random view of each image or face."""
        ...

    def plain(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "v c s t"]:
        """Return the view that a trained network is tested on."""
        ...


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The image itself."""

    def __call__(self, images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c s t"]:  # noqa: ARG002
        """Return the images."""
        return images

    def plain(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s t"]:
        """Return the images."""
        return images


@dataclass(frozen=True, slots=True)
class Fixed:
    """The plain view of another augmentation at every step."""

    views: Augmentation

    def __call__(self, images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "v c s t"]:  # noqa: ARG002
        """Return the plain view."""
        return self.views.plain(images)

    def plain(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "v c s t"]:
        """Return the plain view."""
        return self.views.plain(images)


@dataclass(frozen=True, slots=True)
class InColour:
    """The views of another augmentation, with a single channel repeated three times as trainers load grey images."""

    views: Augmentation

    def __call__(self, images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "v 3 s t"]:
        """Draw a view of each image, in three channels."""
        return self.views(images, generator).expand(-1, 3, -1, -1)

    def plain(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "v 3 s t"]:
        """Return the plain view, in three channels."""
        return self.views.plain(images).expand(-1, 3, -1, -1)


@dataclass(frozen=True, slots=True)
class ShiftFlip:
    """Mirrors half of the images and shifts each a little; the border is reflected, as in a trainer's padded crop.

    Attributes:
        reach: Largest shift, as a fraction of the side: 1/8 is 4 px at 32 px.
        subpixel: Shift by any distance, interpolating (the authors' code), or by whole pixels (what trainers do).
    """

    reach: float = 1 / 8
    subpixel: bool = False

    def __call__(self, images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c s t"]:
        """Draw a mirrored and shifted view of each image."""
        count = len(images)
        sides = torch.tensor([images.shape[3], images.shape[2]])
        mirror = 1 - 2 * torch.randint(0, 2, (count,), generator=generator)
        pixels = (torch.rand(count, 2, generator=generator) * 2 - 1) * self.reach * sides
        if not self.subpixel:
            pixels = pixels.round()
        transform = torch.zeros(count, 2, 3)
        transform[:, 0, 0] = mirror
        transform[:, 1, 1] = 1
        transform[:, :, 2] = 2 * pixels / sides  # the sampling grid spans [-1, 1]
        grid = F.affine_grid(transform.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def plain(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s t"]:
        """Return the images."""
        return images


@dataclass(frozen=True, slots=True)
class RandomResizedCrop:
    """Cuts a random box out of each image and resizes it to a square, as trainers of large images do; mirrors half.

    Resizing is antialiased like a trainer's: a perturbation that averages out in the resized view earns nothing.

    Attributes:
        size: Side of the view, in pixels.
        extents: Height and width that each image of a padded batch really has; the whole tensor if absent.
        scale: Smallest and largest share of the image's area.
        ratio: Narrowest and widest ratio of width to height, drawn on a log scale.
    """

    size: int
    extents: tuple[tuple[int, int], ...] | None = None
    scale: tuple[float, float] = (0.25, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c s t"]:
        """Draw a crop of each image."""
        draws = torch.rand(len(images), 5, generator=generator).tolist()
        views = [
            self._resized(image, *self._box(extent, draw[:4]), mirrored=draw[4] < 0.5)  # noqa: PLR2004 - a fair coin
            for image, extent, draw in zip(images, self._extents(images), draws, strict=True)
        ]
        return torch.stack(views)

    def plain(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s t"]:
        """Return the central square of each image that a network is usually tested on, resized."""
        views = []
        for image, (height, width) in zip(images, self._extents(images), strict=True):
            side = max(1, round(min(height, width) * TEST_SHARE))
            box = (height - side) // 2, (width - side) // 2, side, side
            views.append(self._resized(image, *box, mirrored=False))
        return torch.stack(views)

    def _extents(self, images: Tensor) -> tuple[tuple[int, int], ...]:
        return self.extents or ((images.shape[2], images.shape[3]),) * len(images)

    def _box(self, extent: tuple[int, int], draws: list[float]) -> tuple[int, int, int, int]:
        """Choose top, left, height and width of a crop from four numbers in [0, 1)."""
        height, width = extent
        low, high = self.scale
        narrow, wide = self.ratio
        area = height * width * (low + (high - low) * draws[0])
        ratio = narrow * (wide / narrow) ** draws[1]
        box_height = min(height, max(1, round((area / ratio) ** 0.5)))
        box_width = min(width, max(1, round((area * ratio) ** 0.5)))
        top = int((height - box_height + 1) * draws[2])
        left = int((width - box_width + 1) * draws[3])
        return top, left, box_height, box_width

    def _resized(self, image: Tensor, top: int, left: int, height: int, width: int, *, mirrored: bool) -> Tensor:
        box = image[None, :, top : top + height, left : left + width]
        view = F.interpolate(box, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return (view.flip(3) if mirrored else view)[0]
