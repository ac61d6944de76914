import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.release.fakes import settings

from withhold.data.entries import REPEATED, TEXT
from withhold.data.open import open_dataset
from withhold.errors import InvalidInput
from withhold.progress import SILENT
from withhold.release import plan as planning
from withhold.release import stored_plan
from withhold.release.environment import Environment
from withhold.release.plan import NEIGHBOURS, PIXELS_PER_BATCH, SKIPPED, assign_batches, make_plan
from withhold.release.scan import scan
from withhold.release.stored_plan import load_plan, save_plan


def images(*kinds: tuple[int, int, int, str], shard: str = "a") -> pa.Table:
    """Rows of (how many, width, height, mode)."""
    rows: list[dict[str, Any]] = []
    for count, width, height, mode in kinds:
        rows += [{"shard": shard, "width": width, "height": height, "mode": mode}] * count
    return pa.Table.from_pylist(rows)


def sizes(batch: np.ndarray) -> list[int]:
    return [int(count) for count in np.bincount(batch[batch != SKIPPED])]


def test_batches_of_equal_images_are_nearly_equal_and_hold_each_image_once() -> None:
    batch = assign_batches(images((10, 32, 32, "RGB")), 4, seed=0, anywhere=True)
    assert sorted(sizes(batch)) == [3, 3, 4]


def test_the_assignment_depends_on_the_seed_alone() -> None:
    table = images((64, 32, 32, "RGB"))
    first = assign_batches(table, 8, seed=1, anywhere=True)
    assert np.array_equal(first, assign_batches(table, 8, seed=1, anywhere=True))
    assert not np.array_equal(first, assign_batches(table, 8, seed=2, anywhere=True))
    assert not np.array_equal(first, np.sort(first))


def test_channel_counts_are_never_mixed() -> None:
    batch = assign_batches(images((3, 32, 32, "RGB"), (3, 32, 32, "L"), (2, 32, 32, "RGBA")), 16, 0, anywhere=True)
    assert len(set(batch[:3]) | set(batch[6:])) == 1
    assert not set(batch[3:6]) & set(batch[:3])


def test_a_size_that_fills_batches_stands_alone_and_rare_ones_share() -> None:
    batch = assign_batches(
        images((8, 600, 400, "RGB"), (1, 601, 401, "RGB"), (1, 599, 399, "RGB")), 8, 0, anywhere=True
    )
    assert set(batch[:8]) == {batch[0]}
    assert batch[8] == batch[9] != batch[0]


def test_small_and_large_pictures_do_not_meet() -> None:
    batch = assign_batches(
        images((2, 32, 32, "RGB"), (2, 1200, 800, "RGB"), (2, 800, 1200, "RGB")), 64, 0, anywhere=True
    )
    assert [len(set(batch[start : start + 2])) for start in (0, 2, 4)] == [1, 1, 1]
    assert len(set(batch)) == 3


def test_large_pictures_make_small_batches() -> None:
    batch = assign_batches(images((40, 1200, 800, "RGB")), 256, 0, anywhere=True)
    assert PIXELS_PER_BATCH // (1200 * 800) == 17
    assert sorted(sizes(batch)) == [13, 13, 14]
    huge = assign_batches(images((2, 8000, 8000, "RGB")), 256, 0, anywhere=True)
    assert sizes(huge) == [1, 1]


def test_unreadable_images_are_in_no_batch() -> None:
    batch = assign_batches(images((2, 32, 32, "RGB"), (1, 0, 0, "")), 4, 0, anywhere=True)
    assert batch.tolist() == [0, 0, SKIPPED]


def test_sequential_sets_are_shuffled_among_neighbours_of_one_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "NEIGHBOURS", 6)
    table = pa.concat_tables([images((10, 8, 8, "RGB"), shard="a"), images((5, 8, 8, "RGB"), shard="b")])
    batch = assign_batches(table, 4, 0, anywhere=False)
    for number in range(batch.max() + 1):
        rows = np.flatnonzero(batch == number)
        assert {row // 5 for row in rows.tolist()} == {rows[0] // 5}  # windows of five: 10 = 5 + 5, and the shard of 5
    assert NEIGHBOURS == 4096


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from([(8, 8), (9, 30), (64, 48)]), st.sampled_from(["RGB", "L"]))
    ),
    st.integers(1, 16),
    st.booleans(),
)
def test_every_readable_image_is_in_one_batch_of_allowed_size(
    kinds: list[tuple[int, tuple[int, int], str]], batch_size: int, anywhere: bool
) -> None:
    table = images((1, 8, 8, "RGB"), *((count, *size, mode) for count, size, mode in kinds))
    batch = assign_batches(table, batch_size, 0, anywhere=anywhere)
    counts = sizes(batch)
    assert sum(counts) == len(table)
    assert 1 <= min(counts) <= max(counts) <= batch_size


@pytest.mark.parametrize(
    ("batch_size", "anywhere", "digest"),
    [
        (7, True, "0547798f50d22028"),
        (7, False, "a2c9dd850f27dc86"),
        (256, True, "6b5d5719bad6b8aa"),
        (256, False, "ed3a6dc8749c999a"),
    ],
)
def test_batch_numbers_are_those_of_the_first_version(batch_size: int, anywhere: bool, digest: str) -> None:
    """A release depends on them; the digests were computed by the code before it was made to take less memory."""
    number = np.arange(20_000)
    kind = number * 7919 % 1009 % 6
    common = np.array([(500, 375), (375, 500), (32, 32), (3000, 2000), (31, 900), (0, 0)])[kind]
    rare = np.stack([number * 31 % 700 + 1, number * 17 % 900 + 1], axis=1)
    width, height = np.where((kind == 4)[:, None], rare, common).T
    mode = np.where(kind == 5, "", np.array(["RGB", "L", "RGBA", "I;16"])[number * 13 % 101 % 4])
    shard = [f"s{row // 4500}" for row in range(20_000)]
    table = pa.table({"shard": shard, "width": pa.array(width, pa.int32()), "height": pa.array(height, pa.int32())})
    batch = assign_batches(table.append_column("mode", pa.array(mode.tolist())), batch_size, 3, anywhere=anywhere)
    assert hashlib.sha256(batch.astype("<i4").tobytes()).hexdigest()[:16] == digest


def test_texts_of_a_plan_may_take_more_than_two_gibibytes(source: Path) -> None:
    dataset = open_dataset(source)
    table = make_plan(dataset, scan(dataset, SILENT), settings(), None, Environment("2", "cpu", 3)).table
    assert {table.schema.field(name).type for name in ("name", "released_name")} == {TEXT}
    assert {table.schema.field(name).type for name in ("shard", "split", "mode")} == {REPEATED}
    assert TEXT == REPEATED.value_type == pa.large_string()


def test_a_plan_stored_in_several_parts_is_read_as_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column in parts would be copied as a whole for every batch."""
    monkeypatch.setattr(stored_plan, "ROWS", 5)
    dataset = open_dataset(source)
    plan = make_plan(dataset, scan(dataset, SILENT), settings(), None, Environment("2", "cpu", 3))
    save_plan(plan, tmp_path / "plan.parquet", tmp_path / "plan.json")
    assert pq.ParquetFile(tmp_path / "plan.parquet").num_row_groups == 3
    loaded = load_plan(tmp_path / "plan.parquet", tmp_path / "plan.json").table
    assert loaded.equals(plan.table)
    assert {column.num_chunks for column in [*loaded.columns, *plan.table.columns]} == {1}


def test_a_plan_of_an_earlier_version_is_read(source: Path, tmp_path: Path) -> None:
    dataset = open_dataset(source)
    plan = make_plan(dataset, scan(dataset, SILENT), settings(), None, Environment("2", "cpu", 3))
    table, document = tmp_path / "plan.parquet", tmp_path / "plan.json"
    save_plan(plan, table, document)
    texts = {name: pa.string() for name in ("name", "released_name", "shard", "split", "mode")}
    fields = [field.with_type(texts.get(field.name, field.type)) for field in plan.table.schema]
    before = plan.table.cast(pa.schema(fields)).add_column(0, "index", pa.array(np.arange(12)))
    pq.write_table(before, table, compression="zstd")
    content = json.loads(document.read_bytes())
    document.write_text(json.dumps({**content, "table_sha256": hashlib.sha256(table.read_bytes()).hexdigest()}))
    assert load_plan(table, document).table.equals(plan.table)


def test_a_plan_survives_storage(source: Path, tmp_path: Path) -> None:
    dataset = open_dataset(source)
    plan = make_plan(dataset, scan(dataset, SILENT), settings(seed=3), "abc", Environment("2", "cpu", 3))
    table, document = tmp_path / "plan.parquet", tmp_path / "plan.json"
    save_plan(plan, table, document)
    loaded = load_plan(table, document)
    assert loaded.table.equals(plan.table)
    assert (loaded.classes, loaded.layout, loaded.settings, loaded.surrogate) == (
        ("cat", "dog", "owl"),
        "folder",
        plan.settings,
        "abc",
    )
    assert sorted(np.concatenate(loaded.rows_of_batches()).tolist()) == list(range(12))
    stored = table.read_bytes()
    table.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
    with pytest.raises(InvalidInput, match="damaged"):
        load_plan(table, document)
