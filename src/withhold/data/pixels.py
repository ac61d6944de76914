"""Pixels on a file's own grid: decoding, bounded change, lossless encoding; the only file that knows of 255 levels.

What happens to each kind of image:

* RGB stays RGB, greyscale stays greyscale (its one channel changes), 1 bit per pixel becomes greyscale.
* Palette images become RGB, or RGBA if any entry is transparent. A colour key (PNG tRNS) becomes an alpha channel.
* Alpha is never changed, and neither is the colour hidden under it lost: RGB under alpha 0 survives the file. Outside
  of PNG and TIFF an alpha channel that is opaque everywhere counts as none.
* 16-bit greyscale keeps its depth and changes in multiples of 257, that is, in whole levels of 8 bit.
* 16-bit colour is read as 8 bit, as Pillow and so most trainers read it, and is released with 8 bit.
* CMYK, YCbCr, LAB and HSV become RGB by Pillow's conversion, as trainers see them; their ICC profile no longer fits
  and is dropped. Every other ICC profile is kept.
* Stored pixels are never rotated. Of the metadata only Orientation, Artist and Copyright are carried: the rest may
  hold a thumbnail, which is an unprotected copy, or a place. Pillow rotates TIFF while reading it; TIFF is therefore
  released upright and without Orientation.
* Of a JPEG with several pictures (MPO, as phones write it) the first one counts. Other files with several frames,
  truncated files, floating point pixels and more pixels than `PIL.Image.MAX_IMAGE_PIXELS` are unreadable.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from withhold.data.metadata import carried_exif, without_orientation
from withhold.errors import InvalidInput

Lossless = Literal["png", "webp", "tiff"]

_TOP = 255
_PER_LEVEL_16 = 257  # 65535 / 255: one 8-bit level on the 16-bit grid
_LARGEST_EPS = Fraction(64, _TOP)
_SNAP = Fraction(1, 10**6)  # of a level: a float that means 8/255 lies closer than this to it

# Decoders that a training set needs; fewer decoders are fewer ways to be attacked by a file (EPS runs a program).
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF", "JPEG2000")
_SAME_COLOURS = MappingProxyType(
    {
        **{"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA"},
        **{"RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"},
    }
)
_OTHER_COLOURS = MappingProxyType({"CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"})
_ALPHA_AS_WRITTEN = frozenset({"PNG", "TIFF"})
_GREY_16 = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})

# Measured on photographs of 224 px with noise of 8 levels. PNG level 1 takes 5 ms for 113 kB; the default level 6 takes
# 8 ms to save 3 %. WebP takes 7 ms for 93 kB; more effort saves 3 % for six times the time. `exact` keeps the colour
# under transparent pixels.
_OPTIONS: Mapping[Lossless, Mapping[str, Any]] = MappingProxyType(
    {
        "png": {"format": "PNG", "compress_level": 1},
        "webp": {"format": "WEBP", "lossless": True, "exact": True, "method": 2, "quality": 0},
        "tiff": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    }
)


class UnreadableImage(InvalidInput):
    """Stored bytes are not one complete still picture of a supported kind."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded image on the grid of its file.

    Attributes:
        levels: (h, w, c), uint8 with c = 1 or 3, or uint16 with c = 1: the part that may change.
        alpha: (h, w) uint8, never changed; None if the image has none.
        icc_profile: Colour profile of `levels`.
        exif: Orientation, Artist and Copyright, as EXIF bytes; None if the file states none of them.
    """

    levels: np.ndarray
    alpha: np.ndarray | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None

    @property
    def mode(self) -> str:
        """Pillow mode of the released file: `L`, `LA`, `RGB`, `RGBA` or `I;16`."""
        if self.levels.dtype == np.uint16:
            return "I;16"
        colours = "L" if self.levels.shape[2] == 1 else "RGB"
        return colours if self.alpha is None else colours + "A"

    def unit(self) -> np.ndarray:
        """Scale to float32 (c, h, w) in [0, 1]."""
        scaled = self.levels.transpose(2, 0, 1).astype(np.float32) / np.float32(np.iinfo(self.levels.dtype).max)
        return np.ascontiguousarray(scaled)

    def perturbed(self, delta: np.ndarray, bound: int) -> "Picture":
        """Add `delta` in whole levels, never more than `bound` of them and never off the grid.

        The sum is made of integers, so the bound holds exactly, whatever `delta` is.

        Args:
            delta: (c, h, w), as a fraction of the pixel range.
            bound: Largest change of a channel, in levels of 8 bit.

        Raises:
            ValueError: `delta` has another shape or holds NaN, or `bound` is negative.
        """
        height, width, channels = self.levels.shape
        if delta.shape != (channels, height, width):
            msg = f"expected delta of shape {(channels, height, width)} (c, h, w), got {delta.shape}"
            raise ValueError(msg)
        if bound < 0 or np.isnan(delta).any():
            msg = f"expected a bound of at least 0 and delta without NaN, got bound {bound}"
            raise ValueError(msg)
        # Clipped before scaling too, so that huge values cannot overflow on the way.
        steps = np.clip(np.rint(np.clip(delta, -1.0, 1.0) * _TOP), -bound, bound).astype(np.int32)
        if self.levels.dtype == np.uint16:
            steps *= _PER_LEVEL_16
        moved = np.clip(self.levels + steps.transpose(1, 2, 0), 0, np.iinfo(self.levels.dtype).max)
        return replace(self, levels=np.ascontiguousarray(moved.astype(self.levels.dtype)))


def decode(stored: bytes) -> Picture:
    """Decode an image file held in memory.

    Raises:
        UnreadableImage: The bytes are no complete still picture of a supported kind.
    """
    try:
        with Image.open(io.BytesIO(stored), formats=FORMATS) as image:
            _refuse_unsupported(image)
            image.load()
            return _picture(image)
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        msg = f"not an image of a known kind ({len(stored)} bytes); replace the file, or leave it out"
        raise UnreadableImage(msg) from error
    except Exception as error:  # on malformed bytes Pillow's decoders raise nearly anything
        msg = f"not a complete image ({error}); replace the file, or leave it out"
        raise UnreadableImage(msg) from error


def encode(picture: Picture, lossless: Lossless) -> bytes:
    """Encode without loss; equal pictures give equal bytes.

    Raises:
        InvalidInput: WebP is asked for and cannot hold the picture's mode; see `storable`.
    """
    if not storable(picture, lossless):
        opaque = " with opaque alpha" if picture.mode == "RGBA" else ""
        msg = f"WebP cannot keep the mode of this image, {picture.mode}{opaque}; choose png as the lossless format"
        raise InvalidInput(msg)
    exif = without_orientation(picture.exif) if lossless == "tiff" else picture.exif
    metadata: dict[str, Any] = {"icc_profile": picture.icc_profile, "exif": exif}
    target = io.BytesIO()
    _image(picture).save(target, **_OPTIONS[lossless], **{name: value for name, value in metadata.items() if value})
    return target.getvalue()


def storable(picture: Picture, lossless: str) -> bool:
    """Say whether a lossless format gives a picture back in its mode.

    PNG and TIFF always do. WebP holds RGB and RGBA only, and forgets an alpha channel that is opaque everywhere.
    """
    if lossless != "webp":
        return True
    return picture.mode == "RGB" or (picture.mode == "RGBA" and not _is_opaque(picture.alpha))


def change(before: Picture, after: Picture) -> np.ndarray:
    """Measure the absolute change of every channel of every pixel.

    Returns:
        (h, w, c), in levels of 8 bit: int32, or float64 for 16-bit pictures.

    Raises:
        InvalidInput: The two differ in size, channels or depth.
    """
    if before.levels.shape != after.levels.shape or before.levels.dtype != after.levels.dtype:
        was = f"{before.levels.shape} {before.levels.dtype}"
        msg = f"expected pictures of equal shape and depth, got {was} and {after.levels.shape} {after.levels.dtype}"
        raise InvalidInput(msg)
    difference = np.abs(after.levels.astype(np.int32) - before.levels.astype(np.int32))
    return difference / _PER_LEVEL_16 if before.levels.dtype == np.uint16 else difference


def levels(eps: Fraction) -> int:
    """Count the whole 8-bit levels inside `eps`, a fraction of the pixel range.

    >>> levels(Fraction(8, 255)), levels(Fraction("0.03"))
    (8, 7)
    """
    return math.floor(eps * _TOP)


def parse_eps(text: str | float | Fraction) -> Fraction:
    """Read the largest allowed change, as a fraction of the pixel range; only whole levels of it can be used.

    >>> parse_eps("8/255"), parse_eps("0.03"), parse_eps(8 / 255)
    (Fraction(8, 255), Fraction(3, 100), Fraction(8, 255))
    >>> levels(parse_eps("8.5/255"))
    8

    Raises:
        InvalidInput: Not a number, smaller than one level, or above 64/255.
    """
    try:
        numbers = [Fraction(number) for number in "".join(str(text).split()).split("/")]
        over, under = numbers if len(numbers) > 1 else (*numbers, Fraction(1))
        eps = over / under
    except (ValueError, ZeroDivisionError) as error:
        msg = f"expected eps as a fraction of the pixel range such as 8/255 or 0.03, got {text!r}"
        raise InvalidInput(msg) from error
    nearest = Fraction(round(eps * _TOP), _TOP)
    if abs(eps - nearest) * _TOP < _SNAP:
        eps = nearest
    if eps >= 1:
        levels_meant = f"; did you mean {eps}/{_TOP}?" if eps <= _LARGEST_EPS * _TOP else ""
        msg = f"expected eps as a fraction of the pixel range, at most {_LARGEST_EPS}, got {text}{levels_meant}"
        raise InvalidInput(msg)
    if eps > _LARGEST_EPS:
        msg = f"expected eps of at most {_LARGEST_EPS}, beyond which the change is plain to see, got {text}"
        raise InvalidInput(msg)
    if levels(eps) < 1:
        msg = f"expected eps of at least 1/{_TOP}, the smallest change a file can hold, got {text}"
        raise InvalidInput(msg)
    return eps


def _refuse_unsupported(image: Image.Image) -> None:
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        msg = f"expected at most {most} pixels, got {image.width} x {image.height}; scale the image down"
        raise UnreadableImage(msg)
    # Not n_frames: to count them Pillow goes through the whole file, and there may be a million.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        msg = "expected a still picture, got several frames; split them into files, or leave the file out"
        raise UnreadableImage(msg)


def _picture(image: Image.Image) -> Picture:
    exif = carried_exif(image)
    profile = image.info.get("icc_profile") or None
    if image.mode in _GREY_16:
        return Picture(_grey_16(image), None, profile, exif)
    if image.mode in _OTHER_COLOURS:
        profile = None
    elif image.mode not in _SAME_COLOURS:
        msg = f"pixels of mode {image.mode} have no fixed range; convert the image to 8 or 16 bit"
        raise UnreadableImage(msg)
    mode = _SAME_COLOURS.get(image.mode, "RGB")
    if image.has_transparency_data and not mode.endswith("A"):
        mode += "A"
    pixels = np.array(image.convert(mode))  # a copy that may be written to, as torch wants it
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels  # noqa: PLR2004 (greyscale has no channel axis)
    if not mode.endswith("A"):
        return Picture(np.ascontiguousarray(pixels), None, profile, exif)
    colours, alpha = np.ascontiguousarray(pixels[..., :-1]), np.ascontiguousarray(pixels[..., -1])
    counts = image.format in _ALPHA_AS_WRITTEN or not _is_opaque(alpha)
    return Picture(colours, alpha if counts else None, profile, exif)


def _grey_16(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)[..., np.newaxis]
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        msg = f"integer pixels of {values.min()} to {values.max()} do not fit 16 bit; convert the image to 8 or 16 bit"
        raise UnreadableImage(msg)
    return values.astype(np.uint16)


def _is_opaque(alpha: np.ndarray | None) -> bool:
    return alpha is not None and bool((alpha == np.iinfo(np.uint8).max).all())


def _image(picture: Picture) -> Image.Image:
    if picture.levels.dtype == np.uint16:
        return Image.fromarray(picture.levels[..., 0])
    if picture.alpha is not None:
        return Image.fromarray(np.dstack([picture.levels, picture.alpha]))
    return Image.fromarray(picture.levels[..., 0] if picture.levels.shape[2] == 1 else picture.levels)
