from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from withhold.data import parquet_rows
from withhold.data.parquet_rows import ImageCursor
from withhold.errors import RunStopped

ROWS = 400
PIECE = 32


def content(row: int) -> bytes | None:
    return None if row % 50 == 7 else b"image %d" % row


def store(path: Path, group: int) -> Path:
    values = [{"bytes": content(row), "path": ""} for row in range(ROWS)]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(values, image)}), path, row_group_size=group, compression="none")
    return path


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Row groups, one entry for each piece that was read of them."""
    read, seen = ImageCursor._read, list[int]()

    def counting(cursor: ImageCursor, group: int) -> Iterator[list[bytes | None]]:
        for images in read(cursor, group):
            seen.append(group)
            yield images

    monkeypatch.setattr(ImageCursor, "_read", counting)
    return seen


def batches(seed: int = 0) -> list[list[int]]:
    return [sorted(part.tolist()) for part in np.array_split(np.random.default_rng(seed).permutation(ROWS), 16)]


@pytest.mark.parametrize("group", [1000, 150, 64, 10])
def test_batches_of_one_window_cost_one_pass(tmp_path: Path, pieces: list[int], group: int) -> None:
    cursor = ImageCursor(store(tmp_path / "a.parquet", group), "image")
    for rows in batches():
        assert cursor.take(rows) == {row: content(row) for row in rows}
    in_group = [min(group, ROWS - start) for start in range(0, ROWS, group)]
    assert len(pieces) == sum(-(-rows // PIECE) for rows in in_group)


def test_what_is_kept_is_bounded(tmp_path: Path, pieces: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_KEPT_BYTES", 500)
    cursor = ImageCursor(store(tmp_path / "a.parquet", 1000), "image")
    for rows in batches():
        assert cursor.take(rows) == {row: content(row) for row in rows}
        assert cursor._kept_bytes == sum(len(image or b"") for image in cursor._kept.values()) <= 500
    assert len(pieces) > 13  # what is not kept is read again


def test_distant_row_groups_are_not_read_on_the_way(
    tmp_path: Path, pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "_KEPT_ROWS", 50)
    cursor = ImageCursor(store(tmp_path / "a.parquet", 100), "image")
    cursor.take([0, 399])
    assert pieces == [0, 3, 3, 3, 3]


@pytest.mark.parametrize("kept", [4096, 1])
def test_rows_in_front_of_damage_are_read_and_those_behind_are_named(
    tmp_path: Path, pieces: list[int], monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(parquet_rows, "_KEPT_ROWS", kept)
    cursor = ImageCursor(store(tmp_path / "a.parquet", 200), "image")
    read = cursor._read

    def damaged(group: int) -> Iterator[list[bytes | None]]:
        for number, images in enumerate(read(group)):
            if (group, number) == (0, 3):
                raise OSError("a broken page")
            yield images

    monkeypatch.setattr(cursor, "_read", damaged)
    for _ in range(3):
        found = cursor.take(range(90, 210))
        assert [row for row, image in found.items() if isinstance(image, RunStopped)] == list(range(96, 200))
        assert found[95] == content(95)
        assert found[205] == content(205)
    assert "cannot read row 96 of" in str(found[96])
    assert "a broken page" in str(found[199])
    assert pieces.count(0) == (4 if kept > 1 else 4 + 2 * 3)  # the damage itself is met once
