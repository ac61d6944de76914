"""Reading pairs: what is read, and everything that would make figures wrong refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from withhold.data.entries import Entries, list_entries
from withhold.data.open import open_dataset
from withhold.errors import InvalidInput
from withhold.evaluation.faces.pairs import pixel_digests, read_pairs, seen_images
from withhold.evaluation.faces.verification import measure_verification
from withhold.evaluation.images import read_part
from withhold.evaluation.matching import Part

HEADER = "same,image_a,image_b"


def picture(path: Path, shade: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((6, 5, 3), shade, np.uint8)
    pixels[0, 0] = 255 - shade
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures beside where the CSV will be."""
    for index in range(8):
        picture(tmp_path / f"{index}.png", 20 * index)
    return tmp_path


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    file = folder / "pairs.csv"
    file.write_text("\n".join((header, *rows)) + "\n")
    return file


FOUR = ("1,0.png,1.png", "1,2.png,3.png", "0,0.png,2.png", "0,1.png,3.png")


def test_pairs_are_read_with_each_picture_once(folder: Path) -> None:
    pairs = read_pairs(written(folder, *FOUR), folds=2)
    assert pairs.names == ("0.png", "1.png", "2.png", "3.png")
    assert pairs.images == tuple(folder / name for name in pairs.names)
    assert pairs.first.tolist() == [0, 2, 0, 1]
    assert pairs.second.tolist() == [1, 3, 2, 3]
    assert pairs.same.tolist() == [True, True, False, False]
    assert pairs.folds is None
    assert len(pairs) == 4


def test_columns_may_come_in_any_order_with_folds_and_as_spreadsheets_write_them(folder: Path) -> None:
    file = folder / "pairs.csv"
    lines = [
        "fold, image_b,image_a,same",
        "1,1.png,./0.png,1",
        "2, 3.png ,2.png,1",
        "1,2.png,0.png,0",
        "",
        "2,3.png,1.png,0",
    ]
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    pairs = read_pairs(file)
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [1, 2, 1, 2]
    assert pairs.names == ("0.png", "1.png", "2.png", "3.png")
    assert [pairs.names[index] for index in pairs.first] == ["0.png", "2.png", "0.png", "1.png"]


def test_pictures_may_lie_in_a_folder_named_as_the_csv(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("beside")
    (place / "pairs").symlink_to(folder)
    pairs = read_pairs(written(place, *FOUR), folds=2)
    assert pairs.images[0] == place / "pairs" / "0.png"
    (place / "0.png").write_bytes(b"")  # one picture beside the CSV is not all of them
    assert read_pairs(place / "pairs.csv", folds=2).images[0] == place / "pairs" / "0.png"


def test_paths_may_be_absolute(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = [row.replace(",", f",{folder}/") for row in FOUR]
    assert read_pairs(written(tmp_path_factory.mktemp("away"), *rows), folds=2).images[0] == folder / "0.png"


def test_missing_pictures_are_named_and_counted(folder: Path) -> None:
    for name in (0, 1, 2, 3):
        (folder / f"{name}.png").unlink()
    with pytest.raises(
        InvalidInput, match=r"4 of 4 pictures of .*: 0.png, 1.png, 2.png, \.\.\.\. .* all of them into .*/pairs$"
    ):
        read_pairs(written(folder, *FOUR), folds=2)
    picture(folder / "pairs" / "0.png", 0)
    with pytest.raises(InvalidInput, match=r"3 of 4 pictures of .* are missing in .*/pairs: 1.png, 2.png, 3.png\."):
        read_pairs(folder / "pairs.csv", folds=2)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "."])
def test_names_that_no_picture_can_have_are_missing(folder: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="1 of 5 pictures"):
        read_pairs(written(folder, *FOUR, f"1,0.png,{name}"), folds=2)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (("2,4.png,5.png",), "row 6: expected same to be 1 .one person. or 0 .two., got '2'"),
        (("yes,4.png,5.png",), "got 'yes'"),
        (("1.0,4.png,5.png",), "got '1.0'"),
        ((",4.png,5.png",), "got ''"),
        (("1,4.png",), "row 6: expected 3 values, got 2"),
        (("1,4.png,5.png,6.png",), "expected 3 values, got 4"),
        (("1,,5.png",), "a picture has no name"),
        (("1,4.png,4.png",), "row 6: 4.png is paired with itself"),
        (("1,4.png,./4.png",), "4.png is paired with itself"),
        (("1,0.png,1.png",), "row 6: the pair 0.png and 1.png is in row 2 already"),
        (("1,1.png,0.png",), "row 6: the pair 1.png and 0.png is in row 2 already"),
        (("0,1.png,0.png",), "in row 2 already"),
        (('1,"4.png,5.png',), "no CSV in UTF-8"),
    ],
)
def test_rows_that_make_figures_wrong_are_refused(folder: Path, rows: tuple[str, ...], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        read_pairs(written(folder, *FOUR, *rows), folds=2)


@pytest.mark.parametrize("header", ["", "same,image_a", "label,a,b", "same,image_a,image_b,folds", "same,same,image_a"])
def test_other_columns_are_refused(folder: Path, header: str) -> None:
    with pytest.raises(
        InvalidInput, match="needs the columns same, image_a, image_b and may have fold; its first line"
    ):
        read_pairs(written(folder, *FOUR, header=header), folds=2)


@pytest.mark.parametrize("fold", ["", "a", "1.5", "-1", "9" * 30])
def test_folds_are_whole_numbers(folder: Path, fold: str) -> None:
    rows = [f"{row},{index % 2}" for index, row in enumerate(FOUR)]
    with pytest.raises(InvalidInput, match=f"row 6: expected fold to be a whole number from 0, got '{fold}'"):
        read_pairs(written(folder, *rows, f"1,4.png,5.png,{fold}", header=f"{HEADER},fold"))


def test_sets_that_cannot_be_divided_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"pairs.csv: .* got 10 folds, 2 pairs of one person and 2 of two"):
        read_pairs(written(folder, *FOUR))
    with pytest.raises(InvalidInput, match=r"got 2 of one person .* and 0 of two"):
        read_pairs(written(folder, *FOUR[:2]), folds=2)
    with pytest.raises(InvalidInput, match=r"got 0 of one person .* and 2 of two"):
        read_pairs(written(folder, *FOUR[2:]), folds=2)
    with pytest.raises(InvalidInput, match="at least 2 folds"):
        read_pairs(written(folder, *(f"{row},3" for row in FOUR), header=f"{HEADER},fold"))
    with pytest.raises(InvalidInput, match="has no pairs"):
        read_pairs(written(folder))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read the pairs in .*none.csv: No such file"):
        read_pairs(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match="Is a directory"):
        read_pairs(tmp_path)
    (tmp_path / "odd.csv").write_bytes(b"same,image_a,image_b\n1,\xff.png,b.png\n")
    with pytest.raises(InvalidInput, match="is no CSV in UTF-8"):
        read_pairs(tmp_path / "odd.csv")


def test_pictures_that_are_also_training_images_are_told(folder: Path) -> None:
    pairs = read_pairs(written(folder, *FOUR), folds=2)
    place = folder / "training" / "class"
    place.mkdir(parents=True)
    for number, name in ((1, "x.png"), (3, "y.bmp"), (7, "z.png")):
        with Image.open(folder / f"{number}.png") as image:
            image.save(place / name)
    dataset = open_dataset(folder / "training")
    entries = Entries(list_entries(dataset))
    training = read_part(Part(dataset, entries, np.zeros(3, np.int64)), "the training set", 8).digests
    digests = pixel_digests(pairs)
    assert seen_images(pairs, digests, training) == ("1.png", "3.png")
    assert seen_images(pairs, digests, training[2:]) == ()


def test_one_picture_under_two_names_is_refused(folder: Path) -> None:
    with Image.open(folder / "0.png") as image:
        image.save(folder / "1.png", compress_level=0)
    assert (folder / "0.png").read_bytes() != (folder / "1.png").read_bytes()
    pairs = read_pairs(written(folder, *FOUR), folds=2)
    with pytest.raises(InvalidInput, match=r"0.png and 1.png are the same picture"):
        pixel_digests(pairs)


def test_pictures_that_cannot_be_read_are_named(folder: Path) -> None:
    pairs = read_pairs(written(folder, *FOUR), folds=2)
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:40])
    with pytest.raises(InvalidInput, match=r"2.png cannot be read"):
        pixel_digests(pairs)


def test_pairs_of_lfw_are_read_and_measured(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    source = Path(os.environ.get("WITHHOLD_TEST_DATA", root.parent / "shared" / "data")) / "lfw62" / "pairs.csv"
    if not source.is_file():
        pytest.skip(f"no {source}; name the folder of the shared data in WITHHOLD_TEST_DATA")
    file = tmp_path / "pairs.csv"
    file.write_bytes(source.read_bytes())
    with pytest.raises(InvalidInput, match="728 of 728 pictures"):
        read_pairs(file)
    named = {cell for line in source.read_text().splitlines()[1:] for cell in line.split(",")[1:]}
    (tmp_path / "pairs").mkdir()
    for name in named:
        (tmp_path / "pairs" / name).touch()
    pairs = read_pairs(file)
    assert (len(pairs), len(pairs.images), int(pairs.same.sum())) == (542, 728, 271)
    # The names tell who is shown: an oracle that reads them is never wrong.
    people = np.array([name.rsplit("_", 1)[0] for name in pairs.names])
    scores = (people[pairs.first] == people[pairs.second]).astype(float)
    assert measure_verification(scores, pairs.same).lfw.mean == 1.0
