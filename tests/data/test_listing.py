import os
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from withhold.data.listing import (
    check_splits,
    irregular_names,
    is_image,
    released_name,
    split_of,
    suffix_of,
    walk,
    walk_hidden,
)
from withhold.errors import InvalidInput


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@given(st.lists(st.text("a. ", min_size=1, max_size=5).filter(lambda part: part != "."), min_size=1).map("/".join))
def test_suffixes_are_those_of_paths(name: str) -> None:
    assert suffix_of(name) == PurePosixPath(name).suffix


def test_walk_is_sorted_and_skips_hidden_files(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.jpg", "b/1.jpg", "a.txt", ".hidden", ".git/x.jpg", "b/.x.jpg", "b/é/1.jpg")
    (tmp_path / "empty").mkdir()
    assert list(walk(tmp_path)) == ["a.txt", "b/1.jpg", "b/2.jpg", "b/é/1.jpg", "empty/"]


def test_hidden_files_are_those_that_walk_leaves_out(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg", "a.txt", ".hidden", ".git/x.jpg", ".git/.y", "b/.x.jpg", "b/.c/d/e")
    (tmp_path / ".empty").mkdir()
    assert list(walk_hidden(tmp_path)) == [".git/.y", ".git/x.jpg", ".hidden", "b/.c/d/e", "b/.x.jpg"]


def test_walk_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "data/a/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/up").symlink_to(tmp_path / "data")
    assert list(walk(tmp_path / "data")) == ["a/1.jpg", "b/2.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow only Unicode names")
def test_names_that_are_no_unicode_are_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jpg")).write_bytes(b"")
    with pytest.raises(InvalidInput, match="not valid UTF-8"):
        list(walk(tmp_path))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="gone"):
        list(walk(tmp_path / "gone"))


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.Png", "a.b.tif", "dir/ü.webp", "a.gif", "a.bmp"])
def test_image_names(name: str) -> None:
    assert is_image(name)


@pytest.mark.parametrize("name", ["a.txt", "a", "jpg", "a.jpg.zip", "dir.jpg/readme"])
def test_other_names(name: str) -> None:
    assert not is_image(name)


@pytest.mark.parametrize(
    ("name", "lossless", "released"),
    [
        ("a.jpg", "png", "a.png"),
        ("a.JPEG", "webp", "a.webp"),
        ("a.PNG", "webp", "a.PNG"),
        ("a.webp", "png", "a.webp"),
        ("a.TIFF", "png", "a.TIFF"),
        ("x.y/a.b.gif", "png", "x.y/a.b.png"),
    ],
)
def test_suffixes_say_what_a_file_has_become(name: str, lossless: str, released: str) -> None:
    assert released_name(name, lossless) == released


@pytest.mark.parametrize(
    ("names", "irregular"),
    [
        (["a.jpg", "b.jpg"], {}),
        (["a.jpg", "a.png"], {"a.jpg": "a.jpg.png"}),
        (["a.jpg", "a.jpeg"], {"a.jpg": "a.jpg.png", "a.jpeg": "a.jpeg.png"}),
        (["a.jpg", "a.JPG"], {"a.JPG": "a.JPG.png", "a.jpg": "a.jpg.png.png"}),
        (["a.jpg", "A.png"], {"a.jpg": "a.jpg.png"}),
        (["a.jpg", "a.png", "a.jpg.png"], {"a.jpg": "a.jpg.png.png"}),
    ],
)
def test_names_that_meet_are_told_apart(names: list[str], irregular: dict[str, str]) -> None:
    assert irregular_names(names, "png") == irregular


SUFFIXES = st.lists(st.sampled_from([".jpg", ".JPG", ".png", ".webp", ".bmp"]), min_size=1, max_size=3).map("".join)
NAMES = st.lists(st.builds("{}{}".format, st.sampled_from("abA"), SUFFIXES), unique_by=str.casefold, max_size=12)


@given(NAMES, st.sampled_from(["png", "webp"]))
def test_released_names_are_unique_and_depend_on_the_set_alone(names: list[str], lossless: str) -> None:
    irregular = irregular_names(names, lossless)
    released = [irregular.get(name) or released_name(name, lossless) for name in names]
    assert len({name.casefold() for name in released}) == len(names)
    assert irregular_names(names[::-1], lossless) == irregular
    for name, new in zip(names, released, strict=True):
        if name.endswith((".png", ".webp")):
            assert new == name


@pytest.mark.parametrize(
    ("shard", "split"),
    [
        ("train.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("default/test/0000.parquet", "test"),
        ("photos.parquet", ""),
        ("training-set.tar", ""),
    ],
)
def test_splits_are_read_off_names(shard: str, split: str) -> None:
    assert split_of(shard) == split


def test_unknown_splits_are_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="no split named dev: the dataset has test, train"):
        check_splits(["train", "dev"], ["train", "test", ""])
    with pytest.raises(InvalidInput, match="not divided"):
        check_splits(["train"], [""])
