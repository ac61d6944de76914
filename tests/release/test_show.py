from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from withhold.data import drawing
from withhold.data.dataset import Dataset, Entry
from withhold.data.drawing import difference, shown
from withhold.data.pixels import Picture, decode, encode
from withhold.errors import InvalidInput
from withhold.release import sheet
from withhold.release.run import protect
from withhold.release.settings import ProtectSettings
from withhold.release.sheet import CELL, GAP, HEAD, MARGIN, Row, draw_sheet
from withhold.release.show import show

TOP = MARGIN + HEAD + GAP


def grey(level: int, size: tuple[int, int] = (32, 32), dtype: type[np.generic] = np.uint8) -> Picture:
    return Picture(np.full((*size, 1), level, dtype))


def colour(level: int, size: tuple[int, int] = (32, 32)) -> Picture:
    return Picture(np.full((*size, 3), level, np.uint8))


def store(folder: Path, pictures: dict[str, Picture]) -> Path:
    for name, picture in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture, "png"))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return store(tmp_path / "photos", {f"{c}/{i}.png": colour(100 + i) for c in "abc" for i in range(4)})


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return store(tmp_path / "released", {f"{c}/{i}.png": colour(108 + i) for c in "abc" for i in range(4)})


def cell(image: Image.Image, column: int) -> tuple[int, ...]:
    """Read the pixel in the middle of the first row's cell."""
    pixel = image.getpixel((MARGIN + column * (CELL + GAP) + CELL // 2, TOP + CELL // 2))
    assert isinstance(pixel, tuple)
    return pixel


def test_the_difference_is_magnified_around_mid_grey() -> None:
    drawn = np.asarray(difference(colour(100), colour(104), 10))
    assert (drawn == round(0.5 * 255 + 40)).all()
    assert (np.asarray(difference(colour(104), colour(100), 10)) == round(0.5 * 255 - 40)).all()
    assert np.isin(np.asarray(difference(colour(9), colour(9), 10)), (127, 128)).all()
    assert (np.asarray(difference(colour(0), colour(200), 10)) == 255).all()


def test_columns_are_original_released_and_difference() -> None:
    image = draw_sheet(["Released"], [Row("a", colour(100), [colour(108)])], 10)
    assert [cell(image, column)[0] for column in range(3)] == [100, 108, 208]
    assert image.width == 2 * MARGIN + 3 * CELL + 2 * GAP


def test_each_version_has_its_two_columns() -> None:
    image = draw_sheet(["4/255", "8/255"], [Row("a", colour(100), [colour(104), colour(92)])], 10)
    assert [cell(image, column)[0] for column in range(5)] == [100, 104, 168, 92, 48]


def test_small_pictures_are_enlarged_pixel_by_pixel() -> None:
    levels = np.zeros((32, 32, 3), np.uint8)
    levels[::2, ::2] = 255
    image = draw_sheet([], [Row("a", Picture(levels), [])], 10)
    enlarged = np.asarray(image)[TOP : TOP + CELL, MARGIN : MARGIN + CELL]
    assert (enlarged == np.kron(levels, np.ones((8, 8, 1), np.uint8))).all()


def test_large_pictures_are_shown_whole_and_in_detail() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (600, 1024, 3), dtype=np.uint8)
    image = np.asarray(draw_sheet([], [Row("a", Picture(levels), [])], 10))
    whole_height = CELL * 600 // 1024
    detail = image[TOP + whole_height + GAP // 2 :, MARGIN : MARGIN + CELL][:CELL]
    assert (detail == levels[172 : 172 + CELL, 384 : 384 + CELL]).all()


def test_the_change_of_a_large_picture_stays_visible_when_reduced() -> None:
    before = np.full((1024, 1024, 3), 100, np.uint8)
    after = before + 8 * ((np.indices((1024, 1024)).sum(0) % 2) * 2 - 1)[..., None]
    image = draw_sheet(["Released"], [Row("a", Picture(before), [Picture(after.astype(np.uint8))])], 10)
    left = MARGIN + 2 * (CELL + GAP)
    drawn = np.asarray(image)[TOP : TOP + CELL, left : left + CELL, 0]
    assert {47, 48, 207, 208} & set(drawn.ravel().tolist())
    assert abs(drawn.astype(float) - 127.5).mean() > 60


@pytest.mark.parametrize(
    ("picture", "pixel"),
    [
        (grey(70), (70, 70, 70)),
        (grey(70 * 257, dtype=np.uint16), (70, 70, 70)),
        (Picture(colour(70).levels, np.zeros((32, 32), np.uint8)), drawing.PAPER),
        (Picture(colour(70).levels, np.full((32, 32), 255, np.uint8)), (70, 70, 70)),
    ],
)
def test_every_kind_of_picture_can_be_shown(picture: Picture, pixel: tuple[int, int, int]) -> None:
    image = shown(picture)
    assert image.mode == "RGB"
    assert image.getpixel((5, 5)) == pixel


def test_captions_give_largest_change_and_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(sheet, "_write", lambda _draw, _place, text, *_: written.append(text))
    draw_sheet(["Released"], [Row("cat/1.png", colour(100), [colour(92)])], 10)
    assert written[:3] == ["Original", "Released", "Difference x 10"]
    assert written[3:] == [
        "cat/1.png",
        "32 x 32 pixels, enlarged 8 times",
        "largest change 8/255",
        "PSNR 30.1 dB",
        "mid grey: no change",
    ]


def test_a_long_name_stays_inside_its_column() -> None:
    image = np.asarray(draw_sheet(["Released"], [Row("a/" + "w" * 200 + ".png", grey(9), [grey(10)])], 10))
    gap = image[:, MARGIN + CELL : MARGIN + CELL + GAP]
    assert (gap == drawing.PAPER).all()


def test_sampling_takes_each_class_before_any_twice(photos: Path, released: Path, tmp_path: Path) -> None:
    rows = _rows_shown(photos, [released], tmp_path, count=6)
    assert sorted(name[0] for name in rows[:3]) == ["a", "b", "c"]
    assert sorted(name[0] for name in rows[3:]) == ["a", "b", "c"]
    assert len(set(rows)) == 6


def test_the_seed_decides_the_sample(photos: Path, released: Path, tmp_path: Path) -> None:
    samples = {seed: _rows_shown(photos, [released], tmp_path, seed=seed) for seed in range(4)}
    assert samples[0] == _rows_shown(photos, [released], tmp_path, seed=0)
    assert len({tuple(rows) for rows in samples.values()}) > 1


def test_a_small_set_is_shown_whole(photos: Path, released: Path, tmp_path: Path) -> None:
    assert len(_rows_shown(photos, [released], tmp_path, count=100)) == 12


def test_named_images_come_in_the_order_asked_for(photos: Path, released: Path, tmp_path: Path) -> None:
    names = ["c/3.png", "a/0.png"]
    assert _rows_shown(photos, [released], tmp_path, names=names) == names


def test_images_outside_the_release_are_not_sampled(photos: Path, released: Path, tmp_path: Path) -> None:
    (released / "a/0.png").unlink()
    assert len(_rows_shown(photos, [released], tmp_path, count=100)) == 11


def test_a_jpeg_is_paired_with_its_lossless_release(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (32, 32), (90, 90, 90)).save(tmp_path / "photos" / label / "1.jpg")
    stored = (tmp_path / "photos/a/1.jpg").read_bytes()
    released = store(tmp_path / "released", {f"{label}/1.png": decode(stored) for label in "ab"})
    assert _rows_shown(tmp_path / "photos", [released], tmp_path, names=["a/1.jpg"]) == ["a/1.jpg"]


def test_strengths_are_crafted_from_the_first_release(
    photos: Path, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from withhold.release import recraft  # noqa: PLC0415 - imported by show when needed

    def fake(
        _dataset: Dataset,
        release: Path,
        entries: Sequence[Entry],
        originals: Sequence[Picture],
        eps: Sequence[Fraction],
    ) -> list[tuple[str, list[Picture]]]:
        assert release == released
        assert [entry.name for entry in entries] == ["a/0.png"]
        return [(f"eps {each}", [p.perturbed(np.ones((3, 32, 32)), 4) for p in originals]) for each in eps]

    monkeypatch.setattr(recraft, "recraft", fake)
    output = tmp_path / "x.png"
    show(photos, [released], output, names=["a/0.png"], eps=[Fraction(4, 255)])
    with Image.open(output) as image:
        assert [cell(image, column)[0] for column in range(5)] == [100, 108, 208, 104, 168]


def test_strengths_of_a_release_of_one_split_are_crafted_with_its_classes(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    store(source, {f"train/{c}/{i}.png": _noise(10 * ord(c) + i) for c in "bc" for i in range(2)})
    store(source, {f"test/{c}/{i}.png": _noise(10 * ord(c) + i) for c in "abc" for i in range(2)})
    chosen = ProtectSettings(splits=("train",), steps=1, epochs=1, batch_size=4, device="cpu")
    protect(source, tmp_path / "out", chosen)
    output = tmp_path / "x.png"
    show(source, [tmp_path / "out"], output, count=4, eps=[Fraction(4, 255)])
    assert output.is_file()


def _noise(seed: int) -> Picture:
    return Picture(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def test_an_unknown_name_is_refused_with_the_nearest(photos: Path, released: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no image is called 'a/0.jpg' .* nearest name is 'a/0.png'"):
        show(photos, [released], tmp_path / "x.png", names=["a/0.jpg"])


def test_a_named_image_missing_from_the_release_is_refused(photos: Path, released: Path, tmp_path: Path) -> None:
    (released / "a/0.png").unlink()
    with pytest.raises(InvalidInput, match=r"a/0\.png is not in the release"):
        show(photos, [released], tmp_path / "x.png", names=["a/0.png"])


def test_another_size_in_the_release_is_refused(photos: Path, released: Path, tmp_path: Path) -> None:
    store(released, {"a/0.png": colour(100, (16, 16))})
    with pytest.raises(InvalidInput, match=r"a/0\.png has another size"):
        show(photos, [released], tmp_path / "x.png", names=["a/0.png"])


def test_an_unrelated_release_is_refused(photos: Path, tmp_path: Path) -> None:
    other = store(tmp_path / "other", {"x/9.png": colour(1), "y/9.png": colour(2)})
    with pytest.raises(InvalidInput, match="no image of the source is in every release"):
        show(photos, [other], tmp_path / "x.png")


@pytest.mark.parametrize(
    ("output", "said"), [("x.docx", "no suffix of a picture format"), ("absent/x.png", "does not exist")]
)
def test_an_impossible_output_is_refused(photos: Path, released: Path, tmp_path: Path, output: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        show(photos, [released], tmp_path / output)


def _rows_shown(
    photos: Path,
    released: Sequence[Path],
    tmp_path: Path,
    *,
    names: Sequence[str] = (),
    count: int = 6,
    seed: int = 0,
) -> list[str]:
    """Draw a sheet, check its height, and say which images it shows."""
    rows: list[str] = []
    with pytest.MonkeyPatch.context() as patch:

        def draw(titles: Sequence[str], drawn: Sequence[Row], magnify: float) -> Image.Image:
            rows.extend(row.name for row in drawn)
            return draw_sheet(titles, drawn, magnify)

        patch.setattr("withhold.release.show.draw_sheet", draw)
        assert show(photos, released, tmp_path / "x.png", names=names, count=count, seed=seed).is_file()
    return rows
