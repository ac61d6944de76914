import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.samples import Releasing, files_of, jpeg, noise, png, saved

from withhold.data.open import open_dataset
from withhold.data.pixels import UnreadableImage
from withhold.errors import InvalidInput, RunStopped

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def note(**names: list[str]) -> dict[str, str]:
    """Metadata as the `datasets` library writes it."""
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {column: {"names": values, "_type": "ClassLabel"} for column, values in names.items()}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def write(
    path: Path,
    images: Sequence[bytes | None],
    metadata: dict[str, str] | None = None,
    paths: list[str | None] | None = None,
    group: int = 100,
    **columns: Any,  # noqa: ANN401 (columns are lists or Arrow arrays)
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = paths or [f"{row}.jpg" for row in range(len(images))]
    values = [{"bytes": image, "path": name} for image, name in zip(images, names, strict=True)]
    table = pa.table({"image": pa.array(values, type=IMAGE), **columns})
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=group, compression="zstd")
    return path


def images_of(path: Path) -> list[dict[str, Any]]:
    images: list[Any] = pq.read_table(path).column("image").to_pylist()
    return images


def test_classes_names_and_order(tmp_path: Path) -> None:
    metadata = note(label=["tench", "church"])
    write(tmp_path / "d/train-00001-of-00002.parquet", [jpeg(2)], metadata, label=[0])
    write(tmp_path / "d/train-00000-of-00002.parquet", [jpeg(0), jpeg(1)], metadata, label=[1, 0])
    write(tmp_path / "d/test/0000.parquet", [jpeg(3)], metadata, label=[1])
    data = open_dataset(tmp_path / "d")
    assert (data.layout, data.classes, data.random_access) == ("parquet", ("tench", "church"), False)
    assert [(entry.name, entry.label, entry.row, entry.split) for entry in data.entries()] == [
        ("test/0000.parquet#0", 1, 0, "test"),
        ("train-00000-of-00002.parquet#0", 1, 0, "train"),
        ("train-00000-of-00002.parquet#1", 0, 1, "train"),
        ("train-00001-of-00002.parquet#0", 0, 0, "train"),
    ]


def test_release_keeps_everything_else(tmp_path: Path, release: Releasing) -> None:
    images = [jpeg(row) for row in range(7)]
    images[3] = saved(noise("L"), "JPEG")
    kind = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, 0, 0, 1, 0]), pa.array(["old", "new"]))
    boxes = [[1, 2], [], None, [3], [4, 5, 6], [7], [8]]
    source = write(
        tmp_path / "d/train.parquet",
        images,
        note(label=["a", "b", "c"]),
        paths=["x/0.JPG", None, "2.png", "3.jpeg", "no suffix", "5.bmp", "6.v2"],
        group=3,
        id=list(range(7)),
        label=pa.array([2, 0, 1, 2, 0, 1, 2], pa.int32()),
        kind=kind,
        boxes=boxes,
    )
    done = release(tmp_path / "d")
    before, after = pq.ParquetFile(source), pq.ParquetFile(done.folder / "train.parquet")
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    old, new = before.metadata, after.metadata
    groups = [[meta.row_group(g).num_rows for g in range(meta.num_row_groups)] for meta in (old, new)]
    assert groups == [[3, 3, 1]] * 2
    assert {new.row_group(0).column(c).compression for c in range(new.num_columns)} == {"ZSTD"}
    assert after.read().drop(["image"]).equals(before.read().drop(["image"]))
    paths = [image["path"] for image in images_of(done.folder / "train.parquet")]
    assert paths == ["x/0.png", None, "2.png", "3.png", "no suffix", "5.png", "6.v2"]


def test_compression_is_kept_by_column(tmp_path: Path, release: Releasing) -> None:
    table = pq.read_table(write(tmp_path / "plain.parquet", [jpeg(0), jpeg(1)], label=[0, 1]))
    codecs: Any = {"image.bytes": "NONE", "image.path": "GZIP", "label": "SNAPPY"}
    dictionaries: Any = ["image.path"]
    (tmp_path / "d").mkdir()
    pq.write_table(table, tmp_path / "d/a.parquet", compression=codecs, use_dictionary=dictionaries)
    new = pq.ParquetFile(release(tmp_path / "d").folder / "a.parquet").metadata.row_group(0)
    columns = [new.column(number) for number in range(3)]
    assert [column.compression for column in columns] == ["UNCOMPRESSED", "GZIP", "SNAPPY"]
    assert [column.has_dictionary_page for column in columns] == [False, True, False]


def test_webp_falls_back_to_png_where_it_cannot_hold_the_mode(tmp_path: Path, release: Releasing) -> None:
    write(tmp_path / "d/a.parquet", [jpeg(0), png(1, "L"), png(2, "RGBA")], label=[0, 1, 1])
    done = release(tmp_path / "d", lossless="webp")
    images = images_of(done.folder / "a.parquet")
    assert [image["path"] for image in images] == ["0.webp", "1.png", "2.webp"]
    assert [image["bytes"][:4] for image in images] == [b"RIFF", b"\x89PNG", b"RIFF"]


def test_a_single_file(tmp_path: Path, release: Releasing) -> None:
    done = release(write(tmp_path / "photos.parquet", [jpeg(0), jpeg(1)], label=[0, 1]))
    assert done.names() == ["photos.parquet#0", "photos.parquet#1"]
    assert done.source.ignored() == []


def test_rows_left_out_and_groups_emptied_by_it(tmp_path: Path, release: Releasing) -> None:
    root = tmp_path / "d"
    images = [jpeg(0), b"broken", b"broken", jpeg(1)]
    write(root / "a.parquet", [*images, b"broken"], group=2, label=[0, 1, 1, 1, 0], id=[5, 6, 7, 8, 9])
    write(root / "b.parquet", [b"broken", b"broken"], label=[1, 1], id=[8, 9])
    broken = ["a.parquet#1", "a.parquet#2", "a.parquet#4", "b.parquet#0", "b.parquet#1"]
    done = release(root, without=broken)
    assert done.names() == ["a.parquet#0", "a.parquet#1"]  # rows that are left out no longer count
    assert pq.read_table(done.folder / "a.parquet").column("id").to_pylist() == [5, 8]
    assert pq.read_table(done.folder / "b.parquet").num_rows == 0


def test_only_the_row_groups_asked_for_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [jpeg(row) for row in range(40)], group=10, label=[0, 1] * 20)
    groups = pq.ParquetFile(path).metadata
    content = bytearray(path.read_bytes())
    for number in (0, 1, 3):
        column = groups.row_group(number).column(0)
        begin = column.dictionary_page_offset or column.data_page_offset
        content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    data = open_dataset(path)
    entries = list(data.entries())
    assert list(data.read(entries[20:30])) == [jpeg(row) for row in range(20, 30)]
    with pytest.raises(RunStopped, match="cannot read row 0 of"):
        list(data.read(entries[:1]))


@pytest.mark.parametrize("group", [7, 64, 1000])
def test_images_come_in_the_order_asked_for(tmp_path: Path, group: int) -> None:
    contents = [f"image {row}".encode() for row in range(400)]
    root = tmp_path / "d"
    write(root / "a.parquet", [*contents[:300]], group=group, label=[0] * 300)
    write(root / "b.parquet", [*contents[300:]], group=group, label=[1] * 100)
    data = open_dataset(root)
    entries = list(data.entries())
    assert list(data.read(entries)) == contents
    order = np.random.default_rng(0).permutation(400)
    assert list(data.read([entries[place] for place in order])) == [contents[place] for place in order]
    assert list(data.read([entries[5], entries[5], entries[4]])) == [contents[5], contents[5], contents[4]]


@pytest.mark.parametrize(
    ("columns", "metadata", "classes", "labels"),
    [
        ({"label": [7, 3, 10]}, None, ("3", "7", "10"), [1, 0, 2]),
        ({"label": ["ü", "b", "a"]}, None, ("a", "b", "ü"), [2, 1, 0]),
        ({"label": pa.array(["b", "b", "a"]).dictionary_encode()}, None, ("a", "b"), [1, 1, 0]),
        ({"breed": [0, 1, 0]}, note(breed=["x", "y"]), ("x", "y"), [0, 1, 0]),
        (
            {"fine_label": [2, 1, 0], "coarse_label": [0, 0, 0]},
            note(fine_label=["p", "q", "r"], coarse_label=["all"]),
            ("p", "q", "r"),
            [2, 1, 0],
        ),
        ({"label": [0, 1, 0], "size": [0, 0, 1]}, note(size=["s", "l"]), ("0", "1"), [0, 1, 0]),
        ({"label": [0, 1, 0]}, {"huggingface": "no json"}, ("0", "1"), [0, 1, 0]),
        ({"label": [0, 1, 0]}, {"huggingface": "[1]"}, ("0", "1"), [0, 1, 0]),
    ],
)
def test_which_column_is_the_label_and_what_it_means(
    tmp_path: Path,
    columns: dict[str, Any],
    metadata: dict[str, str] | None,
    classes: tuple[str, ...],
    labels: list[int],
) -> None:
    data = open_dataset(write(tmp_path / "a.parquet", [b"", b"", b""], metadata, **columns))
    assert data.classes == classes
    assert [entry.label for entry in data.entries()] == labels


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": [0, 1]}, "expected a label column"),
        ({"label": [0.5, 1.0]}, "integers or text"),
        ({"label": [0, 1], "mask": pa.array([None, None], IMAGE)}, "one image column"),
    ],
)
def test_unusable_columns_are_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    write(tmp_path / "a.parquet", [b"", b""], **columns)
    with pytest.raises(InvalidInput, match=message):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("label", "metadata"), [(-1, note(label=["a", "b"])), (2, note(label=["a", "b"])), (-1, None), (None, None)]
)
def test_unlabelled_rows_are_refused(tmp_path: Path, label: int | None, metadata: dict[str, str] | None) -> None:
    data = open_dataset(write(tmp_path / "a.parquet", [b"", b""], metadata, label=[0, label]))
    with pytest.raises(InvalidInput, match=r"a\.parquet, row 1"):
        list(data.entries())


def test_images_that_lie_elsewhere_are_refused_one_by_one(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path / "a.parquet", [b"one", None, b"three"], label=[0, 1, 1]))
    entries = list(data.entries())
    images = data.read(entries)
    assert next(images) == b"one"
    with pytest.raises(UnreadableImage, match=r"a\.parquet#1 holds no image bytes"):
        next(images)
    assert list(data.read(entries[2:])) == [b"three"]


def test_files_of_different_kinds_are_refused_until_splits_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [b""], note(label=["a", "b"]), label=[0])
    write(tmp_path / "pairs.parquet", [b""], note(label=["none"]), label=[0])
    (tmp_path / "README.md").write_text("text")
    with pytest.raises(InvalidInput, match=r"pairs\.parquet in .* differ"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, splits=["train"])
    assert data.classes == ("a", "b")
    assert data.ignored() == ["README.md", "pairs.parquet"]


def test_paths_only_are_no_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.jpg"], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="no dataset of a known layout"):
        open_dataset(tmp_path)


def test_a_second_run_gives_the_same_bytes(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write(root / "a.parquet", [jpeg(row) for row in range(5)], group=2, label=[0, 1, 0, 1, 0])
    first = Releasing(tmp_path / "1")(root)
    second = Releasing(tmp_path / "2")(root)
    assert files_of(first.folder) == files_of(second.folder)
    assert files_of(first.spool) == files_of(second.spool)


def test_files_that_go_during_a_run_stop_it(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path / "a.parquet", [png(0), png(1)], label=[0, 1]))
    entries = list(data.entries())
    writer = data.writer(tmp_path / "out", tmp_path / "spool", "png")
    writer.write(0, [(entry, png(2)) for entry in entries])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(RunStopped, match=r"cannot read .*a\.parquet .*restore"):
        list(data.read(entries))
    with pytest.raises(RunStopped, match=r"cannot build the release of .*a\.parquet"):
        writer.assemble(entries)
