"""Pictures as a person sees them: what is in them, and what changed between two of them."""

import numpy as np
from PIL import Image

from withhold.data.pixels import Picture

WHITE = int(np.iinfo(np.uint8).max)
MID_GREY = 0.5
PAPER = (250, 250, 248)


def shown(picture: Picture) -> Image.Image:
    """Turn a picture into what a screen shows: 8-bit RGB, transparent parts over the paper's colour."""
    image = _rgb(picture.unit())
    if picture.alpha is None:
        return image
    paper = Image.new("RGB", image.size, PAPER)
    paper.paste(image, mask=Image.fromarray(picture.alpha))
    return paper


def difference(before: Picture, after: Picture, magnify: float) -> Image.Image:
    """Draw `after - before`, magnified, around mid grey; what lies outside the range is clipped."""
    return _rgb(np.clip(MID_GREY + magnify * (after.unit() - before.unit()), 0, 1))


def _rgb(unit: np.ndarray) -> Image.Image:
    levels = np.rint(unit * WHITE).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:2], 3))))
