"""What may be given to be protected: a file's bytes or its path, an image object of Pillow, or an array."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from withhold.data.pixels import Picture, UnreadableImage, decode
from withhold.errors import InvalidInput

Given = bytes | str | Path | Image.Image | npt.NDArray[np.uint8]
"""Bytes of a file, the path of one, an image object, or levels (h, w, 3 or 1)."""

CHANNELS = frozenset({1, 3})
_IN_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "I;16B"})


class Unchangeable(InvalidInput):
    """Crafting could change nothing of an image, which is then not protected."""


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """An image that can be protected.

    Attributes:
        label: Class index; None if nobody said what the image shows.
        sha256: Of the bytes of the file, or of the levels of an image object or array.
    """

    picture: Picture
    label: int | None
    sha256: str


def read(image: Given) -> tuple[Picture, str]:
    """Decode an image, and hash it as it was given.

    Raises:
        UnreadableImage: It is no complete still picture of a supported kind.
        InvalidInput: There is no such file, or an array of another type or shape.
    """
    if isinstance(image, np.ndarray):
        picture = _of_array(image)
    elif isinstance(image, Image.Image):
        picture = decode(_file_of(image))
    else:
        stored = image if isinstance(image, bytes) else _content(Path(image))
        return decode(stored), hashlib.sha256(stored).hexdigest()
    return picture, hashlib.sha256(shape_and_levels(picture)).hexdigest()


def shape_and_levels(picture: Picture) -> bytes:
    """Give the part of a picture that may change as bytes; different pictures give different ones."""
    levels = picture.levels
    return f"{levels.dtype.str}{levels.shape}".encode() + np.ascontiguousarray(levels).tobytes()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise InvalidInput(msg) from error


def _of_array(levels: npt.NDArray[np.uint8]) -> Picture:
    if levels.dtype != np.uint8 or levels.ndim != 3 or levels.shape[2] not in CHANNELS or 0 in levels.shape:  # noqa: PLR2004
        msg = f"an array holds levels of 8 bit, uint8 of shape (h, w, 3 or 1); got {levels.dtype} of {levels.shape}"
        raise InvalidInput(msg)
    return Picture(np.array(levels))


def _file_of(image: Image.Image) -> bytes:
    """Encode an image object without loss, so that it is decoded by the same rules as every file."""
    if getattr(image, "is_animated", False) and image.format != "MPO":
        msg = "expected a still picture, got several frames; give one of them"
        raise UnreadableImage(msg)
    target = io.BytesIO()
    kept = {name: image.info[name] for name in ("icc_profile", "transparency") if image.info.get(name) is not None}
    try:
        if image.mode in _IN_PNG:
            image.save(target, "PNG", exif=image.getexif(), compress_level=0, **kept)
        else:  # Pillow turns TIFF upright by its Orientation while reading
            image.save(target, "TIFF", **kept)
    except Exception as error:  # an image object may still have to be read, by a decoder that may raise anything
        msg = f"not a complete image ({error}); give another one"
        raise UnreadableImage(msg) from error
    return target.getvalue()
