"""Scaling down and up again before training, as platforms and pipelines do."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import transformed
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class Scaling(Countermeasure):
    """Scale every training image down (antialiased bilinear) and back up (bicubic).

    Attributes:
        side: Of the small image, as a share of the image's side.
    """

    side: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.side < 1:
            msg = f"scaling needs a side in (0, 1), a share of the image's side; got {self.side}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on scaled images."""
        return competitor.train(competitor.views(transformed(images, self.scaled), labels))

    def scaled(self, images: Tensor) -> Tensor:
        """Scale images (n, 3, h, w) in [0, 1] down and up; bicubic may leave the range by a little."""
        full = images.shape[2], images.shape[3]
        small = max(1, round(self.side * full[0])), max(1, round(self.side * full[1]))
        reduced = F.interpolate(images, small, mode="bilinear", antialias=True, align_corners=False)
        return F.interpolate(reduced, full, mode="bicubic", align_corners=False)
