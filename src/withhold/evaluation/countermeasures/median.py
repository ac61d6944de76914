"""Median filter before training, as in Image Shortcut Squeezing (Liu et al., arXiv 2301.13838)."""

from dataclasses import dataclass

import torch.nn.functional as F
from kornia.filters import median_blur
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import transformed
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class MedianBlur(Countermeasure):
    """Replace every pixel of the training images by its neighbourhood's median, channel by channel.

    Attributes:
        side: Of the neighbourhood, odd, in pixels; the border is reflected.
    """

    side: int

    def __post_init__(self) -> None:
        if self.side < 3 or self.side % 2 == 0:  # noqa: PLR2004 - 1 changes nothing
            msg = f"a median needs an odd side of at least 3; got {self.side}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on filtered images."""
        return competitor.train(competitor.views(transformed(images, self.filtered), labels))

    def filtered(self, images: Tensor) -> Tensor:
        """Filter images (n, 3, h, w) in [0, 1]."""
        reach = self.side // 2
        # Padded here, because Kornia's own border is black and would darken the edge.
        filtered: Tensor = median_blur(F.pad(images, (reach,) * 4, mode="reflect"), (self.side, self.side))
        return filtered[:, :, reach:-reach, reach:-reach]
