from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.samples import png

from withhold.data.open import open_dataset
from withhold.errors import InvalidInput


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing at"):
        open_dataset(tmp_path / "gone")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is empty; expected one of"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["photo.png", "photos.zip", "notes.txt"])
def test_a_file_that_is_no_dataset(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(png(0))
    with pytest.raises(InvalidInput, match="no dataset of a known layout"):
        open_dataset(tmp_path / name)


def test_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(InvalidInput, match="unpacked first"):
        open_dataset(tmp_path)


def test_two_layouts_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(png(0))
    (tmp_path / "b.tar").write_bytes(b"")
    with pytest.raises(InvalidInput, match="tar shards and image files"):
        open_dataset(tmp_path)


def test_a_table_beside_class_folders_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(png(0))
    pq.write_table(pa.table({"age": [1, 2]}), tmp_path / "ages.parquet")
    data = open_dataset(tmp_path)
    assert (data.layout, data.ignored()) == ("folder", ["ages.parquet"])


def test_broken_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidInput, match=r"a\.parquet is not a complete Parquet file"):
        open_dataset(tmp_path)
