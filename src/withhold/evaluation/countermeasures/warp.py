"""Random displacement of pixels, as in COIN (Li et al., arXiv 2311.18403)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class Warp(Countermeasure):
    """Move the pixels of every view by random distances, interpolating between pixels (as in COIN).

    Attributes:
        reach: Largest move along each axis, in pixels; what leaves the image comes in at the other side.
        spacing: Pixels from one draw to the next, with moves between interpolated. COIN draws for each pixel: 1.
    """

    reach: float = 2.0
    spacing: int = 1

    def __post_init__(self) -> None:
        if not self.reach > 0 or self.spacing < 1:
            msg = f"a warp needs a reach above 0 and a spacing of at least 1; got {self.reach} and {self.spacing}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on warped views."""
        return competitor.train(ChangedBatches(competitor.views(images, labels), self.change))

    def change(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Warp a batch; its channels move together."""
        count, _, height, width = images.shape
        coarse = -(-height // self.spacing), -(-width // self.spacing)
        moves = self.reach * (2 * torch.rand(count, 2, *coarse, generator=generator) - 1)
        if self.spacing > 1:
            moves = F.interpolate(moves, (height, width), mode="bilinear", align_corners=False)
        return displaced(images, moves), labels


def displaced(images: Tensor, moves: Tensor) -> Tensor:
    """Take every pixel from elsewhere, by bilinear interpolation in the image repeated in all directions.

    Args:
        images: (b, c, h, w).
        moves: (b, 2, h, w), in pixels down and to the right of where a pixel's new value is taken.
    """
    _, channels, height, width = images.shape
    rows = moves[:, 0] + torch.arange(height)[:, None]
    columns = moves[:, 1] + torch.arange(width)
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    flat = images.flatten(2)

    def pixels(row: Tensor, column: Tensor) -> Tensor:
        index = row.long() % height * width + column.long() % width
        return flat.gather(2, index.flatten(1)[:, None].expand(-1, channels, -1)).view_as(images)

    upper = torch.lerp(pixels(top, left), pixels(top, left + 1), right)
    lower = torch.lerp(pixels(top + 1, left), pixels(top + 1, left + 1), right)
    return torch.lerp(upper, lower, down)
