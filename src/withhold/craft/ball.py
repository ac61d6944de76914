"""What may change: the l-inf ball around each image, within the valid range and, if asked, within a region."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from withhold.errors import InvalidInput


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Box that holds every admissible perturbation of a batch, so that projection is one clamp.

    Attributes:
        lower: Smallest perturbation of each channel value, at most 0.
        upper: Largest perturbation of each channel value, at least 0.
    """

    lower: Float[Tensor, "b c h w"]
    upper: Float[Tensor, "b c h w"]

    def project(self, delta: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Move a perturbation to the nearest admissible one."""
        return delta.clamp(self.lower, self.upper)


@dataclass(frozen=True, slots=True)
class Linf:
    """The l-inf ball: no channel of any pixel changes by more than `radius`, a fraction of the pixel range.

    >>> Linf(0.25).bounds(torch.ones(1, 1, 1, 1)).lower.item()
    -0.25
    """

    radius: float

    def __post_init__(self) -> None:
        if not 0 < self.radius <= 1:
            msg = (
                f"the radius is a fraction of the pixel range, above 0 and at most 1, such as 8/255; got {self.radius}"
            )
            raise InvalidInput(msg)

    def bounds(self, images: Float[Tensor, "b c h w"], region: Bool[Tensor, "b 1 h w"] | None = None) -> Bounds:
        """Intersect the ball with the valid range [0, 1] of the pixels.

        Args:
            images: Pixels in [0, 1].
            region: Where an image may change at all; everywhere if absent.
        """
        radius = torch.full_like(images[:, :1], self.radius)
        if region is not None:
            radius = radius * region
        return Bounds(lower=torch.maximum(-images, -radius), upper=torch.minimum(1 - images, radius))
