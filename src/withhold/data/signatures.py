"""What the first bytes of a file tell: whether it is an image, whatever it is called.

Everything in a dataset that is not one of its labelled images is released as it is. An image among that, such as the
photograph that a crop was cut from, would be released unprotected; this is how the layouts notice one. Numbers without
a file format around them (arrays, tensors) cannot be told from other data.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

FIRST = 65
"""Bytes to look at. What is shorter is no image worth protecting, but may be a digest or a key, made of any bytes."""

_BMP_HEADERS = b"|".join(re.escape(size.to_bytes(4, "little")) for size in (12, 16, 40, 52, 56, 64, 108, 124))

# Short marks such as the BM of BMP also begin texts, so more of the header is asked for.
_KINDS: Mapping[str, "re.Pattern[bytes]"] = MappingProxyType(
    {
        "JPEG": re.compile(rb"\xff\xd8\xff[\xc0-\xfe]"),
        "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
        "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
        "GIF": re.compile(rb"GIF8[79]a"),
        "BMP": re.compile(rb"BM....\0{4}....(" + _BMP_HEADERS + rb")", re.DOTALL),
        "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
        "HEIF": re.compile(rb"....ftyp(hei[cxms]|hev[cxms]|mif[12]|msf1)", re.DOTALL),
        "AVIF": re.compile(rb"....ftypavi[fs]", re.DOTALL),
        "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
        "JPEG XL": re.compile(rb"\0\0\0\x0cJXL \r\n\x87\n"),
        "PNM": re.compile(rb"P[1-6]\s+\d+\s+\d+\s"),
    }
)


def image_kind(start: bytes) -> str | None:
    r"""Name the image format that a file begins like; None if it begins like no image.

    Args:
        start: The first `FIRST` bytes, or the whole file if it is shorter.

    >>> image_kind(b"\x89PNG\r\n\x1a\n" + bytes(FIRST)), image_kind(b"a caption".ljust(FIRST))
    ('PNG', None)
    """
    if len(start) < FIRST:
        return None
    return next((kind for kind, pattern in _KINDS.items() if pattern.match(start)), None)
