import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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


def test_an_upload_is_known_by_its_bytes() -> None:
    assert Upload.of(b"", None).sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


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
