"""JPEG compression before training, as in Image Shortcut Squeezing (Liu et al., arXiv 2301.13838)."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class Jpeg(Countermeasure):
    """Compress every training image as JPEG, with Pillow's default chroma subsampling (4:2:0).

    Attributes:
        quality: From 1 to 95.
    """

    quality: int

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on the decoded files."""
        return competitor.train(competitor.views(reencoded(images, "JPEG", quality=self.quality), labels))


def reencoded(images: Tensor, file_format: str, **options: int) -> Tensor:
    """Encode images (n, 3, h, w), uint8, in a file format of Pillow's and decode them again."""
    return torch.stack([_round_trip(image, file_format, options) for image in images])


def _round_trip(image: Tensor, file_format: str, options: dict[str, int]) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, file_format, **options)
    with Image.open(file) as decoded:
        return torch.from_numpy(np.array(decoded.convert("RGB"))).permute(2, 0, 1)
