from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.release.fakes import UniformCrafter, make_uniform, never, settings

from withhold.data.folder import FolderWriter
from withhold.data.pixels import Picture
from withhold.errors import RunStopped
from withhold.release import manifest
from withhold.release.crafting import Crafted, Shown
from withhold.release.run import run
from withhold.release.sidecar import Sidecar


def test_the_columns_are_plain_and_in_the_order_of_the_dataset(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", settings(), make_uniform)
    table = pq.read_table(Sidecar(tmp_path / "out").manifest)
    names = [str(name) for name in table.column("name").to_pylist()]
    assert names == sorted(names)
    assert table.column("class").to_pylist() == ["cat"] * 4 + ["dog"] * 4 + ["owl"] * 4
    assert {field.type for field in table.schema} == {pa.string(), pa.int32(), pa.float32()}
    assert table.column("loss").to_pylist() == [0.0] * 4 + [1.0] * 4 + [2.0] * 4
    assert table.column("sign_agreement").to_pylist() == [0.25] * 12


def test_writing_part_by_part_makes_no_difference(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "dog" / "1.png").write_bytes(b"no image")
    run(source, tmp_path / "whole", settings(skip_unreadable=True), make_uniform)
    monkeypatch.setattr(manifest, "ROWS", 3)
    run(source, tmp_path / "parts", settings(skip_unreadable=True), make_uniform)
    stored = pq.ParquetFile(Sidecar(tmp_path / "parts").manifest)
    assert [stored.metadata.row_group(part).num_rows for part in range(stored.num_row_groups)] == [3, 2, 3, 3]
    assert stored.read().equals(pq.read_table(Sidecar(tmp_path / "whole").manifest))


class Unmeasuring(UniformCrafter):
    """Does not measure how signs agree."""

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        return replace(super().__call__(pictures, shown, seed), sign_agreement=None)


def test_what_was_not_measured_is_not_stated(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "out", settings(), lambda materials: Unmeasuring(float(materials.settings.eps)))
    table = pq.read_table(Sidecar(tmp_path / "out").manifest)
    assert table.column("sign_agreement").null_count == 12
    assert (report.quality.sign_agreement, report.quality.alignment) == (None, 0.5)


def test_a_record_of_other_images_is_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FolderWriter, "assemble", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "out", settings(), make_uniform)
    sidecar = Sidecar(tmp_path / "out")
    sidecar.record(1).write_bytes(sidecar.record(0).read_bytes())
    with pytest.raises(RunStopped, match="do not fit the plan"):
        run(source, tmp_path / "out", settings(), never)
