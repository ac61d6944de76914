"""Training images that fit into memory, augmented by one gather per batch."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.networks.training import as_unit


class TensorData:
    """Images of one size, held as uint8; each pass shuffles, crops from a reflected border and flips.

    Args:
        images: (n, 1 or 3, h, w), uint8.
        labels: (n,), int64 in [0, classes).
        augment: Shift by up to an eighth of the shorter side and mirror at random; False passes images as they are.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: int, *, augment: bool = True) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in {1, 3}:  # noqa: PLR2004
            msg = f"images must be uint8 of shape (n, 1 or 3, h, w); got {images.dtype} of shape {tuple(images.shape)}."
            raise InvalidInput(msg)
        if labels.shape != images.shape[:1] or (
            len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes
        ):
            msg = f"labels must be {len(images)} integers in [0, {classes}); got shape {tuple(labels.shape)}."
            raise InvalidInput(msg)
        # Channels last, so that a gathered batch already has the memory layout that convolutions are fastest on.
        self._images = images.permute(0, 2, 3, 1).contiguous()
        self._labels = labels.long()
        self.classes = classes
        self.augment = augment

    def __len__(self) -> int:
        """Count the images."""
        return len(self._labels)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once; see `TrainingData`."""
        order = torch.randperm(len(self), generator=generator)
        for chosen in torch.tensor_split(order, math.ceil(len(self) / batch_size)):
            pixels = shift_and_mirror(self._images, chosen, generator) if self.augment else self._images[chosen]
            yield as_unit(pixels).permute(0, 3, 1, 2), self._labels[chosen]


def shift_and_mirror(images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Take images by number, each shifted by up to an eighth of its shorter side and mirrored half of the time.

    Args:
        images: (n, h, w, c); what a shift uncovers is the image reflected at its border.
        chosen: (b,), int64.

    Returns:
        (b, h, w, c), of the images' type.
    """
    _, height, width, _ = images.shape
    reach = min(height, width) // 8
    shift = torch.randint(-reach, reach + 1, (2, len(chosen), 1), generator=generator)
    mirrored = torch.rand(len(chosen), 1, generator=generator) < 0.5  # noqa: PLR2004
    rows = _reflected(torch.arange(height) + shift[0], height)
    columns = _reflected(torch.arange(width) + shift[1], width)
    columns = torch.where(mirrored, columns.flip(1), columns)
    return images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]


def _reflected(index: Tensor, size: int) -> Tensor:
    return (size - 1) - ((size - 1) - index.abs()).abs()
