import pytest
from tests.data.samples import noise, saved

from withhold.data.signatures import FIRST, image_kind


@pytest.mark.parametrize(
    ("format_name", "kind"),
    [
        ("JPEG", "JPEG"),
        ("PNG", "PNG"),
        ("WEBP", "WebP"),
        ("GIF", "GIF"),
        ("BMP", "BMP"),
        ("TIFF", "TIFF"),
        ("AVIF", "AVIF"),
        ("JPEG2000", "JPEG 2000"),
        ("PPM", "PNM"),
    ],
)
def test_images_that_pillow_writes(format_name: str, kind: str) -> None:
    assert image_kind(saved(noise("RGB", size=(16, 16)), format_name)[:FIRST]) == kind


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    ],
)
def test_images_that_pillow_does_not_write(start: bytes, kind: str) -> None:
    assert image_kind(start.ljust(FIRST, b"\0")) == kind


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"12",
        b'{"label": 3}',
        b"BMW, parked in front of a house in the rain",
        b"GIF is a file format",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"II. A chapter",
        b"P6 is a road",
        b"\0\0\0\x18ftypisom\0\0\0\0isommp41",
        b"\x93NUMPY\x01\0",
        b"PK\x03\x04",
    ],
)
def test_other_files(start: bytes) -> None:
    assert image_kind(start.ljust(FIRST, b"\0")) is None


def test_what_is_too_short_for_an_image_may_be_any_bytes() -> None:
    assert image_kind(b"\xff\xd8\xff\xe0".ljust(64, b"\0")) is None
