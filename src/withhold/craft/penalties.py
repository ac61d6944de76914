"""Regularisers: how large or how visible a perturbation is, added to what crafting minimises.

Fowl et al., arXiv 2103.02683, compare the squared l2 norm, total variation and SSIM.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from kornia.losses import total_variation
from kornia.metrics import ssim
from torch import Tensor


@runtime_checkable
class Penalty(Protocol):
    """A loss of images and their perturbations that crafting lowers beside its objective."""

    def slope(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of the batch's mean penalty in the perturbation."""
        ...

    def losses(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return the penalty of each image, without gradients."""
        ...


@dataclass(frozen=True)
class Differentiated(ABC):
    """A penalty whose slope autograd finds."""

    @abstractmethod
    def values(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return the penalty of each image, differentiable in the perturbation."""

    def slope(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of the batch's mean penalty in the perturbation."""
        delta = delta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.values(images, delta).mean(), delta)
        return slope

    @torch.no_grad()
    def losses(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return the penalty of each image, without gradients."""
        return self.values(images, delta)


@dataclass(frozen=True)
class SquaredL2(Differentiated):
    """|delta|^2, summed over channels and pixels: 0 to 3 for 32 x 32 colour at 8/255."""

    def values(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:  # noqa: ARG002
        """Return the sum of squares of each perturbation."""
        return delta.square().sum(dim=(1, 2, 3))


@dataclass(frozen=True)
class TotalVariation(Differentiated):
    """Absolute differences of the perturbation between neighbours in rows and columns, summed (kornia)."""

    def values(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:  # noqa: ARG002
        """Return the total variation of each perturbation, over all channels."""
        by_channel: Tensor = total_variation(delta)
        return by_channel.sum(dim=1)


@dataclass(frozen=True)
class Dissimilarity(Differentiated):
    """1 - SSIM of the image before and after, in [0, 2] (kornia).

    Gaussian window with a deviation of 1.5, borders reflected, mean over pixels and channels, as the manifest reports
    SSIM.

    Attributes:
        window: Side of the window, odd; in a smaller image the largest odd number that fits.
    """

    window: int = 11

    def values(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return 1 - SSIM of each image and its perturbed version."""
        side = min(self.window, *images.shape[2:])
        similarity: Tensor = ssim(images, images + delta, side - 1 + side % 2)
        return 1 - similarity.mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Penalties:
    """The weighted sum of several penalties; 0 if there are none.

    Attributes:
        parts: Pairs of a weight, 0 or above, and a penalty.
    """

    parts: tuple[tuple[float, Penalty], ...] = ()

    def slope(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the weighted sum of the slopes."""
        slope = torch.zeros_like(delta)
        for weight, penalty in self.parts:
            slope += weight * penalty.slope(images, delta)
        return slope

    def losses(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return each image's weighted sum."""
        losses = delta.new_zeros(len(delta))
        for weight, penalty in self.parts:
            losses += weight * penalty.losses(images, delta)
        return losses


@dataclass(frozen=True)
class Unpadded:
    """Another penalty of each image at its own size, in a batch padded at the bottom and right.

    Neither the padding nor the edge towards it counts: without this, total variation and SSIM would see that edge.

    Attributes:
        extents: Height and width that each image really has.
    """

    penalty: Penalty
    extents: tuple[tuple[int, int], ...]

    def slope(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of the batch's mean penalty; 0 on the padding."""
        slope = torch.zeros_like(delta)
        for (height, width), rows in self._groups():
            inside = rows, slice(None), slice(height), slice(width)
            # The mean over the group, turned into its share of the mean over the batch.
            slope[inside] = self.penalty.slope(images[inside], delta[inside]) * (len(rows) / len(delta))
        return slope

    def losses(self, images: Float[Tensor, "b c h w"], delta: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return the penalty of each image."""
        losses = delta.new_empty(len(delta))
        for (height, width), rows in self._groups():
            inside = rows, slice(None), slice(height), slice(width)
            losses[rows] = self.penalty.losses(images[inside], delta[inside])
        return losses

    def _groups(self) -> Sequence[tuple[tuple[int, int], list[int]]]:
        """Number the images of each size."""
        return [
            (extent, [row for row, own in enumerate(self.extents) if own == extent])
            for extent in dict.fromkeys(self.extents)
        ]
