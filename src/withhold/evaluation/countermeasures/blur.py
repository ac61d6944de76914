"""Gaussian blur before training.

Published tables blur with 3x3 pixels and a deviation of 0.1 (Image Shortcut Squeezing, APBench), which changes nothing:
a neighbour weighs exp(-50) of the middle pixel. So such deviations are refused here.
"""

from dataclasses import dataclass

from kornia.filters import gaussian_blur2d
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import transformed
from withhold.evaluation.countermeasures.countermeasure import Countermeasure

SMALLEST_SIGMA = 0.5
"""At this deviation a neighbour weighs exp(-2) = 0.14 of the middle pixel; below it a blur is hardly one."""


@dataclass(frozen=True)
class GaussianBlur(Countermeasure):
    """Blur every training image with a Gaussian kernel; the border is reflected.

    Attributes:
        side: Of the kernel, odd, in pixels.
        sigma: Deviation, in pixels.
    """

    side: int
    sigma: float

    def __post_init__(self) -> None:
        if self.side < 3 or self.side % 2 == 0 or not self.sigma >= SMALLEST_SIGMA:  # noqa: PLR2004 - 1 blurs nothing
            msg = (
                f"a blur needs an odd side of at least 3 and a sigma of at least {SMALLEST_SIGMA}, "
                f"or it changes next to nothing; got side {self.side} and sigma {self.sigma}."
            )
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on blurred images."""
        return competitor.train(competitor.views(transformed(images, self.blurred), labels))

    def blurred(self, images: Tensor) -> Tensor:
        """Blur images (n, 3, h, w) in [0, 1]."""
        blurred: Tensor = gaussian_blur2d(
            images, (self.side, self.side), (self.sigma, self.sigma), border_type="reflect"
        )
        return blurred
