from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.data.samples import Releasing, jpeg, png
from tests.data.test_parquet import IMAGE, write

from withhold.data.open import open_dataset
from withhold.errors import InvalidInput

ORIGINAL = {"bytes": png(9), "path": "9.png"}
BYTES = pa.binary()

IMAGES: dict[str, Any] = {
    "a list of image structs": pa.array([[], [ORIGINAL]], pa.list_(IMAGE)),
    "image structs that are empty": pa.array([None, None], pa.list_(IMAGE)),
    "an image struct in a struct": pa.array([{"crop": ORIGINAL}, None], pa.struct([("crop", IMAGE)])),
    "bytes": pa.array([None, jpeg(9)], BYTES),
    "large bytes": pa.array([b"", jpeg(9)], pa.large_binary()),
    "bytes of one size": pa.array([png(9)[:80]] * 2, pa.binary(80)),
    "lists of bytes": pa.array([[b"x"], [b"y", png(9)]], pa.list_(BYTES)),
    "lists of one size": pa.array([[b"x", b"z"], [b"y", png(9)]], pa.list_(BYTES, 2)),
    "a struct of bytes": pa.array([{"data": b"x"}, {"data": png(9)}], pa.struct([("data", BYTES)])),
    "a map to bytes": pa.array([[("a", b"x")], [("b", png(9))]], pa.map_(pa.string(), BYTES)),
    "a dictionary of bytes": pa.array([b"x", png(9)]).dictionary_encode(),
}


@pytest.mark.parametrize("column", IMAGES.values(), ids=IMAGES.keys())
def test_images_in_other_columns_are_refused(tmp_path: Path, column: Any) -> None:  # noqa: ANN401 (arrays of any type)
    write(tmp_path / "a.parquet", [png(0), png(1)], label=[0, 1], photo=column)
    with pytest.raises(
        InvalidInput, match=r"the column photo of .*a\.parquet holds images .*; drop it from the source"
    ):
        open_dataset(tmp_path)


def test_an_image_in_the_last_row_of_the_last_file_is_found(tmp_path: Path) -> None:
    for name, last in (("a", b"plain"), ("b", jpeg(9))):
        write(tmp_path / f"{name}.parquet", [png(0)] * 300, group=70, label=[0, 1] * 150, raw=[b"plain"] * 299 + [last])
    with pytest.raises(InvalidInput, match=r"column raw of .*b\.parquet holds images \(JPEG\)"):
        open_dataset(tmp_path)


def test_other_bytes_are_kept(tmp_path: Path, release: Releasing) -> None:
    tags = pa.array([[b"BM", None], None], pa.list_(BYTES))
    write(tmp_path / "d/a.parquet", [png(0), png(1)], label=[0, 1], raw=[b"\0\1", None], tags=tags, text=["GIF", "II*"])
    release(tmp_path / "d")


def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [png(0)], label=[0], raw=[bytes(range(200))])
    content = path.read_bytes()
    place = content.index(bytes(range(100, 150)))
    path.write_bytes(content[: place - 130] + b"\xff" * 150 + content[place + 20 :])
    with pytest.raises(InvalidInput, match="is damaged"):
        open_dataset(tmp_path)
