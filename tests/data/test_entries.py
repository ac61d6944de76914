import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.release.fakes import make_uniform, pixels, png, settings

from withhold.data.entries import in_groups, moved_up
from withhold.data.open import open_dataset
from withhold.release.run import run
from withhold.release.sidecar import Sidecar

BROKEN = {1, 4, 5, 9}
IMAGES = [b"broken" if row in BROKEN else png(pixels(row)) for row in range(12)]


def parquet(root: Path) -> None:
    for name, rows in (("a", range(7)), ("b", range(7, 12))):
        content = [{"image": {"bytes": IMAGES[row], "path": f"{row}.png"}, "label": row % 2} for row in rows]
        pq.write_table(pa.Table.from_pylist(content), root / f"{name}.parquet")


def webdataset(root: Path) -> None:
    with tarfile.open(root / "a.tar", "w") as target:
        for row, image in enumerate(IMAGES):
            for name, content in ((f"{row:02d}.png", image), (f"{row:02d}.cls", b"%d" % (row % 2))):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                target.addfile(info, io.BytesIO(content))


def folders(root: Path) -> None:
    for row, image in enumerate(IMAGES):
        (root / str(row % 2)).mkdir(exist_ok=True)
        (root / str(row % 2) / f"{row}.png").write_bytes(image)


@pytest.mark.parametrize("layout", [parquet, webdataset, folders])
def test_the_manifest_calls_images_as_the_release_does_when_some_are_skipped(tmp_path: Path, layout: object) -> None:
    (tmp_path / "in").mkdir()
    assert callable(layout)
    layout(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out", settings(skip_unreadable=True), make_uniform)
    released = open_dataset(tmp_path / "out")
    manifest = pq.read_table(Sidecar(tmp_path / "out").manifest)
    assert manifest.column("released_name").to_pylist() == [entry.name for entry in released.entries()]
    assert (
        manifest.column("label").to_pylist() == [row % 2 for row in range(12) if row not in BROKEN] or layout is folders
    )


def test_numbers_count_within_each_file() -> None:
    names = ["a#0", "a#1", "b#0", "b#1", "b#2"]
    listing = pa.table({"name": names, "shard": ["a", "a", "b", "b", "b"], "row": [0, 1, 0, 1, 2]})
    kept = np.array([False, True, True, False, True])
    assert moved_up(listing, pa.array(names), kept).to_pylist() == ["a#0", "a#0", "b#0", "b#1", "b#1"]
    assert moved_up(listing, pa.array(names), np.ones(5, bool)).to_pylist() == names


def test_groups_end_by_count_or_by_bytes() -> None:
    assert [len(group) for group in in_groups([1] * 130, lambda size: size)] == [64, 64, 2]
    assert list(in_groups([8 << 20, 1, 4 << 20, 4 << 20], lambda size: size)) == [[8 << 20], [1, 4 << 20, 4 << 20]]
