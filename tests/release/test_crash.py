import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.release.fakes import CLASSES, class_folders, make_uniform, pixels, png, settings, tree
from tests.release.real_crashes import CHOSEN

from withhold.release.run import protect, run
from withhold.release.settings import ProtectSettings

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


def parquet_shards(root: Path) -> Path:
    root.mkdir()
    for shard in range(2):
        rows = [
            {"image": {"bytes": png(pixels(10 * shard + index)), "path": f"{shard}{index}.png"}, "label": index % 3}
            for index in range(6)
        ]
        pq.write_table(pa.Table.from_pylist(rows), root / f"train-0000{shard}-of-00002.parquet")
    return root


def crash_and_resume(source: Path, releases: Path, step: int) -> int:
    return int(output_of("tests.release.crashes", str(source), str(releases), "300", str(step)))


def output_of(module: str, *arguments: str) -> str:
    program = [sys.executable, "-m", module, *arguments]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in the tests themselves
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Every single operation was tried by hand (step 1); the steps here keep the suite fast and meet each kind of operation.
@pytest.mark.parametrize(("layout", "step"), [("folder", 7), ("parquet", 13)])
def test_a_run_killed_before_a_file_operation_ends_in_the_same_bytes(layout: str, step: int, tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 2) if layout == "folder" else parquet_shards(tmp_path / "in")
    run(source, tmp_path / "whole", settings(batch_size=2), make_uniform)
    expected = tree(tmp_path / "whole")
    manifest = (tmp_path / "whole.withhold" / "manifest.parquet").read_bytes()
    images = [name for name in expected if name != "release.json"]
    assert len(images) == (2 * len(CLASSES) if layout == "folder" else 2)

    killed = crash_and_resume(source, tmp_path / "out", step)

    places = sorted(path for path in (tmp_path / "out").iterdir() if path.suffix != ".withhold")
    assert len(places) == killed + 2  # one was never killed, one was killed while it crafted
    assert killed * step > 40
    for place in places:
        assert tree(place) == expected, place.name
        sidecar = place.with_name(f"{place.name}.withhold")
        assert (sidecar / "manifest.parquet").read_bytes() == manifest, place.name
        assert {path.name for path in sidecar.iterdir()} <= {"lock", "manifest.parquet", "plan.json", "plan.parquet"}


def test_a_run_killed_in_training_and_in_crafting_ends_in_the_same_bytes(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", side=16)
    protect(source, tmp_path / "whole", ProtectSettings(**CHOSEN))
    output_of("tests.release.real_crashes", str(source), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    for name in ("manifest.parquet", "surrogate.safetensors", "plan.json"):
        one, other = (tmp_path / f"{place}.withhold" / name for place in ("out", "whole"))
        assert one.read_bytes() == other.read_bytes(), name
