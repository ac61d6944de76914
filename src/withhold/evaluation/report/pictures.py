"""Pictures as a page shows them: inside the page, with their size."""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass

PIXELATED_BELOW = 256


@dataclass(frozen=True, slots=True)
class Row:
    """Pictures of one size, side by side.

    Attributes:
        images: Title and source of each.
        pixelated: Whether they are so small that enlarging must not smooth them.
    """

    images: tuple[tuple[str, str], ...]
    width: int
    height: int
    pixelated: bool


def row(images: Sequence[tuple[str, bytes]]) -> Row:
    """Place titled PNGs side by side; the first one says how large they are."""
    width, height = _png_size(images[0][1])
    sources = tuple((title, _data_uri(png)) for title, png in images)
    return Row(sources, width, height, max(width, height) < PIXELATED_BELOW)


def _png_size(png: bytes) -> tuple[int, int]:
    # The header of a PNG begins at byte 16 with width and height.
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
