"""The colours of the heat map: one hue whose lightness follows the value, for light and dark schemes."""

from collections.abc import Sequence
from dataclasses import dataclass

Rgb = tuple[int, int, int]

# Lightness alone tells values apart, so the scale survives every kind of colour blindness and a printer without colour.
LIGHT: tuple[Rgb, ...] = ((252, 248, 241), (250, 225, 190), (240, 170, 104), (200, 98, 36), (122, 46, 8))
DARK: tuple[Rgb, ...] = ((34, 32, 30), (74, 50, 32), (140, 78, 32), (222, 142, 62), (255, 222, 172))
BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)
FULL = 255


@dataclass(frozen=True, slots=True)
class Shade:
    """Ground and ink of one cell in both schemes, as `#rrggbb`."""

    light: str
    light_ink: str
    dark: str
    dark_ink: str

    @property
    def style(self) -> str:
        """Return the cell's CSS variables."""
        return f"--l:{self.light};--li:{self.light_ink};--d:{self.dark};--di:{self.dark_ink}"


def shade(share: float) -> Shade:
    """Colour a value in [0, 1]; what lies outside gets the colour of the nearer end."""
    grounds = [_between(anchors, share) for anchors in (LIGHT, DARK)]
    inks = [max((BLACK, WHITE), key=lambda ink, ground=ground: contrast(ink, ground)) for ground in grounds]  # type: ignore[misc]
    return Shade(_hex(grounds[0]), _hex(inks[0]), _hex(grounds[1]), _hex(inks[1]))


def contrast(one: Rgb, other: Rgb) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2 defines it.

    >>> contrast((0, 0, 0), (255, 255, 255))
    21.0
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Rgb) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4  # noqa: PLR2004 - the curve of sRGB
        for part in (channel / FULL for channel in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _between(anchors: Sequence[Rgb], share: float) -> Rgb:
    place = min(max(share, 0.0), 1.0) * (len(anchors) - 1)
    first = min(int(place), len(anchors) - 2)
    part = place - first
    red, green, blue = (
        round(low + part * (high - low)) for low, high in zip(anchors[first], anchors[first + 1], strict=True)
    )
    return red, green, blue


def _hex(colour: Rgb) -> str:
    return "#" + bytes(colour).hex()
