"""JPEG and WebP really lose what they are said to lose."""

import torch
from torch import Tensor

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.countermeasures.grey import grey
from withhold.evaluation.countermeasures.jpeg import Jpeg, reencoded
from withhold.evaluation.countermeasures.webp import WebP

from .conftest import SIDE, Seen


def high_frequencies(images: Tensor) -> float:
    """Energy in the outer half of the spectrum."""
    spectrum = torch.fft.fft2(images.float() / 255).abs() ** 2
    distance = torch.fft.fftfreq(SIDE).abs()
    return float(spectrum[..., torch.maximum(distance[:, None], distance) >= 0.25].sum())


def test_the_lower_the_quality_the_fewer_high_frequencies(photographs: Labelled) -> None:
    whole = high_frequencies(photographs.images)
    for file_format in ("JPEG", "WEBP"):
        left = [high_frequencies(reencoded(photographs.images, file_format, quality=q)) for q in (10, 50, 90)]
        assert left == sorted(left)
        assert left[0] < 0.5 * whole
        assert left[2] < whole


def test_high_quality_keeps_the_image(photographs: Labelled) -> None:
    for file_format in ("JPEG", "WEBP"):
        decoded = reencoded(photographs.images, file_format, quality=95)
        assert decoded.dtype == torch.uint8
        # The colours are stored at half the resolution, so what is compared is the luma.
        change = grey(decoded.float()) - grey(photographs.images.float())
        assert change.abs().mean() < 4


def test_training_gets_the_decoded_files(seen: Seen, photographs: Labelled) -> None:
    for countermeasure, file_format in ((Jpeg(30), "JPEG"), (WebP(50), "WEBP")):
        ((images, _),) = seen(countermeasure).epoch(32, torch.Generator().manual_seed(0))
        order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
        expected = reencoded(photographs.images, file_format, quality=countermeasure.quality)[order]
        assert torch.equal((images * 255).round().to(torch.uint8), expected)
