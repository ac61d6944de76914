from pathlib import Path

import pytest
from tests.online.watch.inboxes import put

from withhold.errors import InvalidInput
from withhold.online.watch.labels import Folders, NoLabelYet, Table, Unknown, labels_of


def test_the_setting_names_who_knows(tmp_path: Path) -> None:
    table = put(tmp_path / "labels.csv", b"image,label\na.png,cat\n")
    assert [type(labels_of(given)) for given in ("folders", "unknown", str(table))] == [Folders, Unknown, Table]
    assert labels_of("unknown").of("cat/a.png") is None


def test_a_table_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """Columns may come in any order, and with others; spreadsheets begin the file with a mark."""
    path = put(tmp_path / "labels.csv", b'\xef\xbb\xbflabel,note,image\ncat,,"a, b.png"\n')
    table = Table(path)
    assert table.of("a, b.png") == "cat"
    with pytest.raises(NoLabelYet, match="has no row"):
        table.of("c.png")
    put(path, b"image,label\nc.png,dog\n")
    assert table.of("c.png") == "dog"


@pytest.mark.parametrize("broken", [b"image,label\nc.png\n", b"", None])
def test_a_table_that_breaks_while_images_arrive_still_says_what_it_said(tmp_path: Path, broken: bytes | None) -> None:
    path = put(tmp_path / "labels.csv", b"image,label\na.png,cat\n")
    table = Table(path)
    path.unlink() if broken is None else put(path, broken)
    assert table.of("a.png") == "cat"
    with pytest.raises(NoLabelYet, match=r"labels\.csv"):
        table.of("c.png")
    put(path, b"image,label\na.png,cat\nc.png,dog\n")
    assert table.of("c.png") == "dog"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "missing: image, label"),
        (b"image,class\na.png,cat\n", "missing: label"),
        (b"image,label\na.png,cat\nb.png,\n", "line 3: expected an image and a label"),
        (b"image,label\na.png,cat\na.png,dog\n", "line 3: a.png was 'cat' before and is now 'dog'"),
        (b"image,label\n\xff\xfe,cat\n", "no CSV in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        Table(put(tmp_path / "labels.csv", content))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="give folders, unknown or a CSV"):
        labels_of(str(tmp_path / "folder"))
