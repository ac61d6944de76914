"""CutMix (Yun et al., arXiv 1905.04899)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches, shares
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.mixup import drawn_share, refuse_beta


@dataclass(frozen=True)
class CutMix(Countermeasure):
    """Paste a box of other images into the images of a batch; labels are shared by area (CutMix).

    Attributes:
        beta: The box leaves a share of the area drawn from Beta(beta, beta); 1 is uniform.
        probability: Share of the batches that are changed.
    """

    beta: float = 1.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        refuse_beta(self.beta)
        if not 0 <= self.probability <= 1:
            msg = f"CutMix needs a probability in [0, 1]; got {self.probability}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on pasted images."""

        def change(pixels: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return self.mix(pixels, shares(targets, competitor.classes), generator)

        return competitor.train(ChangedBatches(competitor.views(images, labels), change))

    def mix(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Paste into a batch; its targets are shares (b, classes)."""
        if float(torch.rand((), generator=generator)) >= self.probability:
            return images, targets
        rows, columns = _box(images.shape[2], images.shape[3], drawn_share(self.beta, generator), generator)
        other = torch.randperm(len(images), generator=generator)
        mixed = images.clone()
        mixed[:, :, rows, columns] = images[other][:, :, rows, columns]
        # Counted, not the share that was drawn: the box is cut off at the image's edge.
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / images[0, 0].numel()
        return mixed, torch.lerp(targets, targets[other], pasted)


def _box(height: int, width: int, kept: float, generator: torch.Generator) -> tuple[slice, slice]:
    """Place a box of the image's shape and a share `1 - kept` of its area around any pixel, cut off at the edge."""
    scale = (1 - kept) ** 0.5
    centre = torch.rand(2, generator=generator).tolist()
    sides = [(int(position * size), int(size * scale)) for position, size in zip(centre, (height, width), strict=True)]
    (top, tall), (left, wide) = ((middle - side // 2, side) for middle, side in sides)
    rows = slice(max(0, top), min(height, top + tall))
    return rows, slice(max(0, left), min(width, left + wide))
