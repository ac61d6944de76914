import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from tests.data.samples import noise, png, saved

from withhold.data.pixels import (
    Lossless,
    Picture,
    UnreadableImage,
    change,
    decode,
    encode,
    storable,
)
from withhold.errors import InvalidInput

ORIENTATION, ARTIST, COPYRIGHT, CAMERA = 0x0112, 0x013B, 0x8298, 0x0110
PROFILE = b"a colour profile"


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION], tags[ARTIST], tags[COPYRIGHT], tags[CAMERA] = 6, "Jo Doe", "all rights", "a camera"
    return tags


def png_16_bit_rgb(high: int, low: int) -> bytes:
    """One pixel, written by hand because Pillow writes no 16-bit colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = b"\0" + bytes([high, low] * 3)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_these_modes_are_read_exactly_and_stay(mode: str, kind: str) -> None:
    image = noise(mode)
    picture = decode(saved(image, kind))
    assert picture.mode == mode
    pixels = np.asarray(image).reshape(7, 9, -1)
    colours = 1 if mode in {"L", "LA", "I;16"} else 3
    np.testing.assert_array_equal(picture.levels, pixels[..., :colours])
    assert (picture.alpha is not None) == (mode in {"LA", "RGBA"})
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, pixels[..., -1])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_becomes_greyscale(kind: str) -> None:
    picture = decode(saved(noise("L").convert("1"), kind))
    assert picture.mode == "L"
    assert set(np.unique(picture.levels)) == {0, 255}


def test_palette_becomes_rgb() -> None:
    image = noise("RGB").quantize(8)
    picture = decode(saved(image, "PNG"))
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(picture.levels, np.asarray(image.convert("RGB")))


def test_palette_with_a_transparent_entry_becomes_rgba() -> None:
    image = noise("RGB").quantize(8)
    picture = decode(saved(image, "PNG", transparency=2))
    assert picture.mode == "RGBA"
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 2)


def test_colour_key_becomes_alpha() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    picture = decode(saved(image, "PNG", transparency=(1, 2, 3)))
    assert picture.mode == "RGBA"
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255]]


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("LAB", "TIFF")])
def test_other_colour_spaces_become_rgb_as_pillow_converts_them(mode: str, kind: str) -> None:
    stored = saved(noise("RGB").convert(mode), kind, icc_profile=PROFILE)
    picture = decode(stored)
    assert picture.mode == "RGB"
    assert picture.icc_profile is None
    with Image.open(io.BytesIO(stored)) as image:
        np.testing.assert_array_equal(picture.levels, np.asarray(image.convert("RGB")))


def test_16_bit_colour_is_read_as_8_bit() -> None:
    picture = decode(png_16_bit_rgb(high=200, low=77))
    assert picture.mode == "RGB"
    assert picture.levels.tolist() == [[[200, 200, 200]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_changes_in_whole_levels(kind: str) -> None:
    image = Image.fromarray(np.array([[0, 30_000, 65_535]], np.uint16))
    before = decode(saved(image, kind))
    after = before.perturbed(np.full((1, 1, 3), 0.02), 8)  # 0.02 of the range is 5.1 levels
    assert after.mode == "I;16"
    assert after.levels.ravel().tolist() == [5 * 257, 30_000 + 5 * 257, 65_535]
    assert change(before, after).ravel().tolist() == [5.0, 5.0, 0.0]


def test_opaque_alpha_is_kept_where_the_format_states_it() -> None:
    image = noise("RGB")
    image.putalpha(255)
    assert decode(saved(image, "PNG")).mode == "RGBA"
    assert decode(saved(image, "AVIF")).mode == "RGB"


@pytest.mark.parametrize("lossless", ["png", "webp", "tiff"])
def test_alpha_and_the_colour_under_it_survive(lossless: Lossless) -> None:
    alpha = np.array([[0, 128, 255]], np.uint8)
    picture = Picture(np.array([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]], np.uint8), alpha)
    changed = picture.perturbed(np.full((3, 1, 3), 8 / 255), 8)
    found = decode(encode(changed, lossless))
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha, alpha)
    np.testing.assert_array_equal(found.levels, picture.levels + 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_only_orientation_artist_and_copyright_are_carried(kind: str) -> None:
    picture = decode(saved(noise("RGB"), kind, exif=exif(), icc_profile=PROFILE))
    assert picture.levels.shape == (7, 9, 3)  # not rotated
    assert _tags(picture) == {ORIENTATION: 6, ARTIST: "Jo Doe", COPYRIGHT: "all rights"}
    for lossless in ("png", "webp"):
        again = decode(encode(picture, lossless))
        assert (again.exif, again.icc_profile) == (picture.exif, PROFILE)


def test_tiff_is_never_rotated_twice() -> None:
    upright = decode(saved(noise("RGB"), "TIFF", exif=exif()))
    assert upright.levels.shape == (9, 7, 3)  # Pillow rotates TIFF while reading it
    assert ORIENTATION not in _tags(upright)
    sideways = decode(saved(noise("RGB"), "PNG", exif=exif()))
    again = decode(encode(sideways, "tiff"))
    np.testing.assert_array_equal(again.levels, sideways.levels)
    assert _tags(again) == {ARTIST: "Jo Doe", COPYRIGHT: "all rights"}


def _tags(picture: Picture) -> dict[int, Any]:
    found = Image.Exif()
    found.load(picture.exif or b"")
    return dict(found)


def test_orientation_alone_leaves_a_tiff_without_exif() -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = 6
    assert decode(encode(decode(saved(noise("RGB"), "PNG", exif=tags)), "tiff")).exif is None


def test_broken_exif_does_not_make_an_image_unreadable() -> None:
    assert decode(saved(noise("RGB"), "JPEG", exif=b"Exif\0\0no such thing")).exif is None


def test_first_picture_of_a_phone_jpeg_counts() -> None:
    first, second = noise("RGB", 1), noise("RGB", 2)
    both = saved(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(both).levels, decode(saved(first, "JPEG")).levels)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_frames_are_not_counted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow goes through the whole file for their number."""
    several = saved(noise("RGB", 1), kind, save_all=True, append_images=[noise("RGB", 2)])
    plugin = type(Image.open(io.BytesIO(several)))
    monkeypatch.setattr(plugin, "n_frames", property(lambda _: pytest.fail("they were counted")))
    with pytest.raises(UnreadableImage, match="several frames"):
        decode(several)
    assert decode(saved(noise("RGB", 1), kind)).levels.shape == (*noise("RGB", 1).size[::-1], 3)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind: str) -> None:
    stored = saved(noise("RGB", 1), kind, save_all=True, append_images=[noise("RGB", 2)])
    with pytest.raises(UnreadableImage, match="several frames"):
        decode(stored)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_truncated_files_are_refused(kind: str) -> None:
    stored = saved(noise("RGB", size=(60, 80)), kind)
    with pytest.raises(UnreadableImage, match="not a"):
        decode(stored[: len(stored) // 2])


@pytest.mark.parametrize("stored", [b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_other_bytes_are_refused(stored: bytes) -> None:
    with pytest.raises(UnreadableImage, match="known kind"):
        decode(stored)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="mode F"):
        decode(saved(noise("L").convert("F"), "TIFF"))


def test_integers_beyond_16_bit_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="do not fit 16 bit"):
        decode(saved(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"))


def test_far_too_many_pixels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = png(0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(UnreadableImage):
        decode(stored)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_of_pixels_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = png(0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 62)
    with pytest.raises(UnreadableImage, match="at most 62 pixels, got 9 x 7"):
        decode(stored)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 63)
    assert decode(stored).mode == "RGB"


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_webp_refuses_what_it_cannot_give_back(mode: str) -> None:
    picture = decode(png(0, mode))
    assert not storable(picture, "webp")
    assert storable(picture, "png")
    with pytest.raises(InvalidInput, match=f"mode of this image, {mode}"):
        encode(picture, "webp")


def test_webp_refuses_opaque_alpha_which_it_would_forget() -> None:
    picture = Picture(np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 255, np.uint8))
    with pytest.raises(InvalidInput, match="opaque"):
        encode(picture, "webp")


@given(
    mode=st.sampled_from(["L", "LA", "RGB", "RGBA", "I;16"]),
    lossless=st.sampled_from(["png", "webp", "tiff"]),
    bound=st.integers(0, 64),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_no_file_leaves_the_bound(mode: str, lossless: Lossless, bound: int, seed: int, data: st.DataObject) -> None:
    before = decode(png(seed, mode))
    channels = before.levels.shape[2]
    values = st.floats(allow_nan=False, width=32) | st.floats(-0.25, 0.25, width=32)
    delta = data.draw(arrays(np.float32, (channels, 7, 9), elements=values))
    after = before.perturbed(delta, bound)
    found = decode(encode(after, lossless if storable(after, lossless) else "png"))
    assert found.mode == mode
    assert change(before, found).max() <= bound
    np.testing.assert_array_equal(found.levels, after.levels)
    if before.alpha is not None:
        np.testing.assert_array_equal(found.alpha, before.alpha)


@given(levels_=arrays(np.uint8, (3, 4, 1)), steps=arrays(np.int64, (1, 3, 4), elements=st.integers(-8, 8)))
def test_whole_levels_are_added_exactly(levels_: np.ndarray, steps: np.ndarray) -> None:
    after = Picture(levels_).perturbed((steps / 255).astype(np.float32), 8)
    expected = np.clip(levels_.astype(int) + steps.transpose(1, 2, 0), 0, 255)
    np.testing.assert_array_equal(after.levels, expected)


def test_perturbing_leaves_the_original_alone() -> None:
    picture = decode(png(0))
    levels_ = picture.levels.copy()
    picture.perturbed(np.ones((3, 7, 9)), 8)
    np.testing.assert_array_equal(picture.levels, levels_)


@pytest.mark.parametrize(
    ("delta", "bound"), [(np.zeros((7, 9, 3)), 8), (np.full((3, 7, 9), np.nan), 8), (np.zeros((3, 7, 9)), -1)]
)
def test_meaningless_changes_are_refused(delta: np.ndarray, bound: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        decode(png(0)).perturbed(delta, bound)


@pytest.mark.parametrize(("mode", "top"), [("RGB", 255), ("I;16", 65535)])
def test_unit_scales_to_the_whole_range(mode: str, top: int) -> None:
    picture = decode(png(0, mode))
    unit = picture.unit()
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit.transpose(1, 2, 0) * top, picture.levels, atol=top * 1e-6)


def test_change_is_absolute_and_refuses_other_sizes() -> None:
    before, after = Picture(np.array([[[9]]], np.uint8)), Picture(np.array([[[2]]], np.uint8))
    assert change(before, after).tolist() == [[[7]]]
    with pytest.raises(InvalidInput, match="equal shape"):
        change(before, Picture(np.zeros((2, 1, 1), np.uint8)))


def test_equal_pictures_give_equal_bytes() -> None:
    for lossless in ("png", "webp", "tiff"):
        one, other = (encode(decode(png(5)), lossless) for _ in range(2))
        assert one == other
