import hashlib
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.online.protectors import CLASSES, pixels
from tests.online.service.fakes import encoded, png

from withhold.data.pixels import UnreadableImage, decode
from withhold.errors import InvalidInput
from withhold.online.service.uploads import TooManyPixels, UnknownKind, Upload, label_named, pixels_of

MOST = 10_000
KINDS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
LEVELS = pixels(0, 20, 30)
STORED = {kind: encoded(kind, LEVELS) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_counted_by_the_header_alone(kind: str) -> None:
    assert pixels_of(STORED[kind], MOST) == 600


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_nothing_behind_the_header_is_read(kind: str) -> None:
    cut = STORED[kind][: len(STORED[kind]) * 9 // 10]
    assert pixels_of(cut, MOST) == 600
    with pytest.raises(UnreadableImage):
        decode(cut)


def test_the_kind_is_told_by_the_bytes() -> None:
    for content in (
        b"text",
        b"\x89PNG",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"GIF",
        b"<svg/>",
        b"\0" * 99,
    ):
        with pytest.raises(
            UnknownKind,
            match=f"^The {len(content)} bytes are no image of a known kind, or end in its header. Send one of JPEG",
        ):
            pixels_of(content, MOST)


def test_no_bytes_are_no_image() -> None:
    with pytest.raises(UnreadableImage, match="0 bytes"):
        pixels_of(b"", MOST)


def claiming(width: int, height: int) -> bytes:
    """A small PNG whose header states another size."""
    stored = bytearray(png())
    stored[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    stored[29:33] = zlib.crc32(stored[12:29]).to_bytes(4, "big")
    return bytes(stored)


@pytest.mark.parametrize("size", [(101, 100), (10_000, 10_000), (60_000, 60_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(TooManyPixels, match=r"10000 pixels"):
        pixels_of(claiming(*size), MOST)
    assert pixels_of(claiming(100, 100), MOST) == MOST


def test_a_broken_header_is_refused() -> None:
    stored = bytearray(STORED["TIFF"])
    stored[4:8] = (len(stored) - 2).to_bytes(4, "little")  # where the directory is said to be
    with pytest.raises(UnreadableImage):
        pixels_of(bytes(stored), MOST)


def test_a_label_is_a_name_or_an_index_or_nothing() -> None:
    assert [label_named(text, CLASSES) for text in ("dog", "0", "2", "")] == ["dog", "cat", "owl", None]
    assert label_named("1", ("7", "1")) == "1"  # a name comes first


@pytest.mark.parametrize(
    ("text", "said"),
    [("cta", "did you mean 'cat'"), ("3", "unknown label 3"), ("-1", "'-1'"), ("²", "'²'"), ("x" * 201, "201")],
)
def test_other_labels_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        label_named(text, CLASSES)


def test_an_upload_is_known_by_its_bytes_and_its_size() -> None:
    found = Upload.of(STORED["BMP"], "cat", MOST)
    assert (found.content, found.label, found.pixels) == (STORED["BMP"], "cat", 600)
    assert found.sha256 == hashlib.sha256(STORED["BMP"]).hexdigest()
    with pytest.raises(TooManyPixels):
        Upload.of(STORED["BMP"], None, 599)


def within(kind: str, place: int, part: bytes, times: int) -> bytes:
    """A file with a part put in many times, behind so many of its bytes."""
    stored = STORED[kind]
    return stored[:place] + part * times + stored[place:]


PNG_CHUNK = b"\0\0\0\0aaAa" + zlib.crc32(b"aaAa").to_bytes(4, "big")
JPEG_SEGMENT = b"\xff\xe5\0\2"
GIF_COMMENT = b"!\xfe\x01a\0"
BEHIND_SIGNATURE = {"PNG": 33, "JPEG": 2, "GIF": 13 + 3 * 256}


@pytest.mark.parametrize(
    "content",
    [
        within("PNG", BEHIND_SIGNATURE["PNG"], PNG_CHUNK, 10_000),
        within("JPEG", BEHIND_SIGNATURE["JPEG"], JPEG_SEGMENT, 10_000),
        within("GIF", BEHIND_SIGNATURE["GIF"], GIF_COMMENT, 10_000),
        within("TIFF", 0, b"", 0)[:4] + b"\x08\0\0\0" + b"\xff\xff" + b"\1\0\3\0\1\0\0\0\1\0\0\0" * 65_535,
        b"P6\n#" + b"a" * 10_000 + b"\n30 20 255\n" + bytes(1800),
    ],
    ids=["PNG", "JPEG", "GIF", "TIFF", "PPM"],
)
def test_a_header_without_end_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableImage, match=r"more parts than are read; .*without metadata") as caught:
        pixels_of(content, MOST)
    assert caught.value.__cause__ is None  # so that the client gets this sentence


def test_photographs_may_be_full_of_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "d" * 60_000
    texts = PngInfo()
    for number in range(1000):
        texts.add_text(f"key {number}", "x" * 1000)
    profile = bytes(3_000_000)
    for content in (
        within("PNG", BEHIND_SIGNATURE["PNG"], PNG_CHUNK, 1000),
        within("JPEG", BEHIND_SIGNATURE["JPEG"], JPEG_SEGMENT, 1000),
        within("GIF", BEHIND_SIGNATURE["GIF"], GIF_COMMENT, 1000),
        encoded("PNG", LEVELS, pnginfo=texts, icc_profile=profile[:900_000], exif=exif),
        encoded("JPEG", LEVELS, icc_profile=profile, exif=exif, comment="c" * 60_000),
        encoded("WEBP", LEVELS, icc_profile=profile, exif=exif),
        encoded("TIFF", LEVELS, icc_profile=profile),
        encoded("GIF", LEVELS, comment="c" * 100_000),
    ):
        assert pixels_of(content, MOST) == 600
        assert decode(content).levels.shape[:2] == (20, 30)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file of some kind with bytes changed, cut out, doubled or inserted."""
    stored = bytearray(STORED[draw(st.sampled_from(KINDS))])
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(0, len(stored) - 1)))
        how = draw(st.sampled_from(("set", "cut", "drop", "insert", "double")))
        if how == "set" and stored:
            stored[place] = draw(st.integers(0, 255))
        elif how == "cut":
            del stored[place:]
        elif how == "drop":
            del stored[place : place + draw(st.integers(1, 40))]
        elif how == "insert":
            stored[place:place] = draw(st.binary(min_size=1, max_size=20))
        else:
            stored[place:place] = stored[place : place + 60]
    return bytes(stored)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged() | st.binary(max_size=200))
def test_whatever_the_bytes_they_are_decoded_or_refused(content: bytes) -> None:
    try:
        pixels = pixels_of(content, MOST)
        height, width, _ = decode(content).levels.shape
    except UnreadableImage:
        return
    assert height * width == pixels <= MOST
