"""Fewer levels per channel, as in feature squeezing (Xu et al., arXiv 1704.01155)."""

from dataclasses import dataclass

from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import transformed
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class BitDepth(Countermeasure):
    """Round every training image to fewer levels per channel.

    Image Shortcut Squeezing drops the low bits instead, which also darkens: two bits then end at 192 of 255.

    Attributes:
        bits: Kept per channel, from 1 to 7; the levels are spread evenly over [0, 1].
    """

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 7:  # noqa: PLR2004 - 8 changes nothing
            msg = f"a bit depth is from 1 to 7; got {self.bits}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on rounded images."""
        return competitor.train(competitor.views(transformed(images, self.rounded), labels))

    def rounded(self, images: Tensor) -> Tensor:
        """Round images (n, 3, h, w) in [0, 1] to the nearest of 2^bits levels."""
        top: int = 2**self.bits - 1
        return (images * top).round() / top
