"""A batch of pictures as tensors: what may be crafted of each, and what a network is shown of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from withhold.craft import AlignedFaces, Square
from withhold.data.faces import window
from withhold.data.pixels import Picture
from withhold.release.crafting import Shown

Window = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of a picture, in pixels."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures of any sizes as one tensor, padded at the bottom and right with pixels that may not change.

    Of a picture with faces only the window that holds them is part of the batch, and only the faces may change.

    Attributes:
        images: (b, c, h, w) in [0, 1].
        labels: (v,), one for each view: as many as images, or as faces.
        sizes: Height and width of each picture.
        windows: Part of each picture that is in the batch.
        faces: Image and square of each face, in pixels of the window; None where pictures are seen whole.
        region: (b, 1, h, w), where images may change; None if everywhere.
    """

    images: Tensor
    labels: Tensor
    sizes: tuple[tuple[int, int], ...]
    windows: tuple[Window, ...]
    faces: tuple[tuple[int, Square], ...] | None
    region: Tensor | None

    @classmethod
    def of(cls, pictures: Sequence[Picture], shown: Sequence[Shown], device: torch.device) -> "Batch":
        """Stack pictures with equal channel counts."""
        sizes = tuple((picture.levels.shape[0], picture.levels.shape[1]) for picture in pictures)
        windows = tuple(_window(show, *size) for show, size in zip(shown, sizes, strict=True))
        tensors = [
            torch.from_numpy(picture.unit()[:, top:bottom, left:right])
            for picture, (left, top, right, bottom) in zip(pictures, windows, strict=True)
        ]
        height, width = (max(tensor.shape[axis] for tensor in tensors) for axis in (1, 2))
        padded = [F.pad(tensor, (0, width - tensor.shape[2], 0, height - tensor.shape[1])) for tensor in tensors]
        images = torch.stack(padded).to(device, memory_format=torch.channels_last)
        labels, faces = _views(shown, windows)
        region = _unpadded(images, windows)
        if faces is not None:
            seen = AlignedFaces(faces).region(images)
            region = seen if region is None else region & seen
        return cls(images, torch.tensor(labels, device=device), sizes, windows, faces, region)

    @property
    def extents(self) -> tuple[tuple[int, int], ...]:
        """Height and width of what each image really holds."""
        return tuple((bottom - top, right - left) for left, top, right, bottom in self.windows)

    def per_image(self, values: Tensor) -> Tensor:
        """Average the values (v,) of views over each image: (b,)."""
        if self.faces is None:
            return values
        owner = torch.tensor([index for index, _ in self.faces], device=values.device)
        total = values.new_zeros(len(self.images)).index_add(0, owner, values)
        return total / torch.bincount(owner, minlength=len(self.images))

    def unpad(self, delta: Tensor) -> list[np.ndarray]:
        """Split a perturbation into one array (c, h, w) for each picture, at its own size; 0 outside of its window."""
        arrays = []
        for array, (left, top, right, bottom), size in zip(delta.cpu().numpy(), self.windows, self.sizes, strict=True):
            whole = np.zeros((len(array), *size), array.dtype)
            whole[:, top:bottom, left:right] = array[:, : bottom - top, : right - left]
            arrays.append(whole)
        return arrays


def _window(shown: Shown, height: int, width: int) -> Window:
    return (0, 0, width, height) if isinstance(shown, int) else window([face.square for face in shown], width, height)


def _views(
    shown: Sequence[Shown], windows: Sequence[Window]
) -> tuple[list[int], tuple[tuple[int, Square], ...] | None]:
    """Give the label of each view, and the image and square of each face in it; None where pictures are seen whole."""
    whole = [show for show in shown if isinstance(show, int)]
    if whole:
        return whole, None
    labels, faces = [], []
    for index, (show, (left, top, _, _)) in enumerate(zip(shown, windows, strict=True)):
        for face in () if isinstance(show, int) else show:
            x, y, across, down = face.square
            labels.append(face.label)
            faces.append((index, (x - left, y - top, across, down)))
    return labels, tuple(faces)


def _unpadded(images: Tensor, windows: Sequence[Window]) -> Tensor | None:
    """Mark what is not padding; None where nothing is padded."""
    extents = [(bottom - top, right - left) for left, top, right, bottom in windows]
    if len(set(extents)) == 1:
        return None
    region = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
    for inside, (rows, columns) in zip(region, extents, strict=True):
        inside[:, :rows, :columns] = True
    return region.to(images.device)
