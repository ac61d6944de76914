"""Releases from and to object stores: the bytes of one on disk, published by their last object, whatever fails."""

import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.test_cifar import cifar10
from tests.release.fakes import class_folders, interrupt, make_uniform, never, settings, stopping, tree
from tests.release.test_crash import ROOT, parquet_shards
from tests.release.test_dry_run import fake
from tests.release.test_processes import tar_shards
from tests.stores import Breaking, Bucket, Failing, environment, http_server, patch
from typer.testing import CliRunner

from withhold.cli.main import app
from withhold.data import object_store
from withhold.data.open import open_dataset
from withhold.data.place import place_of
from withhold.errors import InvalidInput, RunStopped
from withhold.release.dry_run import estimate
from withhold.release.engines.choose import _existing
from withhold.release.run import run
from withhold.release.verify import verify

pytestmark = pytest.mark.long

LAYOUTS = [class_folders, parquet_shards, tar_shards, cifar10]
PRIVATE = {"manifest.parquet", "lock", "plan.json", "plan.parquet"}


@pytest.fixture
def expected(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """What the source gives on disk."""
    run(source, tmp_path / "expected", settings(), make_uniform)
    return tree(tmp_path / "expected")


@pytest.mark.parametrize(
    ("layout", "devices"),
    [*((layout, "cpu") for layout in LAYOUTS), (class_folders, "cpu,cpu"), (parquet_shards, "cpu,cpu")],
)
def test_from_store_to_store_gives_the_bytes_of_disks(
    bucket: Bucket, tmp_path: Path, layout: Callable[[Path], Path], devices: str
) -> None:
    """Also where other processes read and write, each of which opens the store itself."""
    source = layout(tmp_path / "photos")
    there = bucket.put_tree("photos", source)
    run(source, tmp_path / "out", settings(), make_uniform)
    report = run(there, f"{bucket.url}/out", settings(device=devices), make_uniform, private=tmp_path / "private")
    assert bucket.tree("out") == tree(tmp_path / "out")
    assert report.verification.passed
    assert {path.name for path in report.sidecar.iterdir()} == PRIVATE
    assert (report.sidecar / "manifest.parquet").read_bytes() == (
        tmp_path / "out.withhold" / "manifest.parquet"
    ).read_bytes()


def test_from_disk_to_store_and_back(bucket: Bucket, source: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    run(source, f"{bucket.url}/deep/out", settings(), make_uniform, private=tmp_path / "private")
    run(bucket.put_tree("photos", source), tmp_path / "out", settings(), make_uniform)
    assert bucket.tree("deep/out") == tree(tmp_path / "out") == expected


def test_what_is_private_never_reaches_the_bucket(
    bucket: Bucket, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = run(source, f"{bucket.url}/a/out", settings(), make_uniform)
    assert report.sidecar == tmp_path / f"{bucket.name}-a-out.withhold"
    assert {path.name for path in report.sidecar.iterdir()} == PRIVATE
    assert set(bucket.keys("a")) == {f"out/{name}" for name in (*tree(source), "release.json")}


@pytest.mark.parametrize("layout", [class_folders, parquet_shards])
def test_release_json_is_written_last(
    bucket: Bucket, tmp_path: Path, layout: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    there_before: list[list[str]] = []

    def looking(name: str, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if name in {"pipe_file", "put_file"}:
            there_before.append(bucket.keys("out"))
        return operation(*args, **options)

    patch(monkeypatch, looking)
    run(layout(tmp_path / "photos"), f"{bucket.url}/out", settings(), make_uniform, private=tmp_path / "private")
    complete = bucket.keys("out")
    assert set(there_before[-1]) == set(complete) - {"release.json"}
    assert all("release.json" not in keys for keys in there_before)


@pytest.mark.parametrize(("layout", "objects"), [(class_folders, 14), (parquet_shards, 4)])
def test_killed_before_any_object_it_resumes_to_the_same_bytes(
    bucket: Bucket, tmp_path: Path, layout: Callable[[Path], Path], objects: int
) -> None:
    """Of the folder's objects: a probe, four for each of three batches, release.json; the first batch counts."""
    source = layout(tmp_path / "photos")
    there = bucket.put_tree("photos", source)
    run(source, tmp_path / "out", settings(), make_uniform)

    def attempt(name: str, stop: int) -> int:
        program = [sys.executable, "-m", "tests.release.store_crashes", there, f"{bucket.url}/{name}"]
        place = environment(bucket.endpoint) | {"OMP_NUM_THREADS": "1"}
        arguments = [*program, str(tmp_path / f"{name}.private"), str(stop)]
        return subprocess.run(arguments, cwd=ROOT, env=place, check=False, timeout=120).returncode

    for stop in (0, objects // 2, objects - 1):
        name = f"out-{stop}"
        assert attempt(name, stop) == -signal.SIGKILL
        left = set(bucket.keys(name))
        assert "release.json" not in left
        run(there, f"{bucket.url}/{name}", settings(), make_uniform, private=tmp_path / f"{name}.private")
        assert bucket.tree(name) == tree(tmp_path / "out")
    assert left == set(bucket.keys(name)) - {"release.json"}, "the last of them was release.json"


def test_an_interrupted_run_keeps_its_finished_batches(
    bucket: Bucket, source: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    destination, private = f"{bucket.url}/out", tmp_path / "private"
    with pytest.raises(KeyboardInterrupt):
        run(source, destination, settings(), stopping(interrupt), private=private)
    with pytest.raises(InvalidInput, match=r"is no finished release: it has no release\.json"):
        verify(source, destination)
    report = run(source, destination, settings(), make_uniform, private=private)
    assert 0 < report.crafted < report.images
    assert bucket.tree("out") == expected
    assert run(source, destination, settings(), never, private=private).crafted == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_store_that_fails_now_and_then_loses_and_doubles_nothing(
    bucket: Bucket, tmp_path: Path, layout: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = layout(tmp_path / "photos")
    there = bucket.put_tree("photos", source)
    run(source, tmp_path / "out", settings(), make_uniform)
    failing = Failing()
    patch(monkeypatch, failing)
    report = run(there, f"{bucket.url}/out", settings(), make_uniform, private=tmp_path / "private")
    assert failing.failed > 10
    assert report.verification.passed
    assert bucket.tree("out") == tree(tmp_path / "out")


@pytest.mark.parametrize(("layout", "after"), [(class_folders, 7), (class_folders, 13), (parquet_shards, 2)])
def test_a_store_that_stays_broken_stops_the_run_which_then_resumes(
    bucket: Bucket, tmp_path: Path, layout: Callable[[Path], Path], after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = layout(tmp_path / "photos")
    destination, private = f"{bucket.url}/out", tmp_path / "private"
    run(source, tmp_path / "out", settings(), make_uniform)
    with monkeypatch.context() as broken:
        patch(broken, Breaking(after))
        with pytest.raises(RunStopped, match=r"cannot write s3://.*: the store failed 5 times \(the line is dead\)"):
            run(source, destination, settings(), make_uniform, private=private)
    assert "release.json" not in bucket.keys("out")
    report = run(source, destination, settings(), make_uniform, private=private)
    assert report.crafted < report.images
    assert bucket.tree("out") == tree(tmp_path / "out")


def test_a_changed_object_is_found_and_crafted_again(
    bucket: Bucket, source: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    destination, private = f"{bucket.url}/out", tmp_path / "private"
    with monkeypatch.context() as broken:
        patch(broken, Breaking(13))
        with pytest.raises(RunStopped):
            run(source, destination, settings(), make_uniform, private=private)
    bucket.put("out/cat/0.png", (source / "cat" / "0.png").read_bytes())
    with pytest.raises(RunStopped, match=r"cat/0\.png is unchanged.*Nothing was published"):
        run(source, destination, settings(), make_uniform, private=private)
    assert {"cat/0.png", "release.json"}.isdisjoint(bucket.keys("out"))
    run(source, destination, settings(), make_uniform, private=private)
    assert bucket.tree("out") == expected


def test_verify_compares_stores(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    there, destination = bucket.put_tree("photos", source), f"{bucket.url}/out"
    run(there, destination, settings(), make_uniform, private=tmp_path / "private")
    for before in (source, there):
        assert verify(before, destination).passed
    bucket.put("out/dog/1.png", (source / "dog" / "1.png").read_bytes())
    bucket.put("out/.hidden", b"something else")
    assert {offender.name for offender in verify(there, destination).offenders} == {"dog/1.png", ".hidden"}
    shown = CliRunner().invoke(app, ["verify", there, destination])
    assert (shown.exit_code, "dog/1.png: is unchanged" in shown.stdout) == (1, True)


def test_a_failing_store_is_no_finding(
    bucket: Bucket, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = f"{bucket.url}/out"
    run(source, destination, settings(), make_uniform, private=tmp_path / "private")

    def failing(name: str, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if name == "cat_file" and args[0].endswith("owl/3.png"):
            raise TimeoutError("no answer")
        return operation(*args, **options)

    patch(monkeypatch, failing)
    with pytest.raises(RunStopped, match=r"cannot read s3://.*owl/3\.png: the store failed 5 times \(no answer\)"):
        verify(source, destination)


def test_single_files_come_over_http(bucket: Bucket, tmp_path: Path) -> None:
    parquet_shards(tmp_path / "served")
    tar_shards(tmp_path / "tars")
    (tmp_path / "tars" / "0.tar").rename(tmp_path / "served" / "0.tar")
    with http_server(tmp_path / "served") as url:
        for number, name in enumerate(("0.tar", "train-00000-of-00002.parquet")):
            out = f"out-{number}"
            run(f"{url}/{name}", f"{bucket.url}/{out}", settings(), make_uniform, private=tmp_path / f"{out}.private")
            run(tmp_path / "served" / name, tmp_path / out, settings(), make_uniform)
            assert bucket.tree(out) == tree(tmp_path / out)
        assert "looks like a file" in refused(f"{url}/0.tar", f"{bucket.url}/0.tar")
        assert "there is nothing at" in refused(f"{url}/1.tar", f"{bucket.url}/out")


def test_a_dry_run_writes_nothing(
    bucket: Bucket, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    patch(monkeypatch, Breaking(0))
    found = estimate(bucket.put_tree("photos", source), f"{bucket.url}/out", settings(), fake)
    assert (found.images, found.disk_bytes) == (12, 0)
    assert found.release_bytes > 0
    assert bucket.keys("out") == []
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def refused(source: object, destination: object, **options: Any) -> str:  # noqa: ANN401
    """The sentence with which a run is refused before any work."""
    with pytest.raises(InvalidInput) as caught:
        run(source, destination, settings(), never, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_what_cannot_be_used_is_refused_before_any_work(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    there, out = bucket.put_tree("photos", source), f"{bucket.url}/out"
    assert "there is no bucket s3://nowhere-at-all;" in refused("s3://nowhere-at-all/photos", out)
    assert "there is no bucket s3://nowhere-at-all;" in refused(source, "s3://nowhere-at-all/out")
    assert f"there is nothing at {bucket.url}/photo;" in refused(f"{bucket.url}/photo", out)
    assert "lie in each other" in refused(there, f"{there}/out")
    assert "lie in each other" in refused(f"{there}/cat", there)
    assert "is a whole bucket" in refused(source, bucket.url)
    assert "is an object" in refused(source, f"{there}/cat/0.png")
    assert "holds files that are not of this release" in refused(source, there)
    assert "lies inside the source" in refused(source, out, private=source / "private")
    assert "lies beside it" in refused(there, tmp_path / "out", private=tmp_path / "private")
    assert "HTTP cannot list" in refused("https://127.0.0.1/photos", out)
    assert "nothing can be written to" in refused(source, "https://127.0.0.1/out")
    assert "gs:// needs the package gcsfs" in refused("gs://bucket/photos", out)
    assert not any(path.name.endswith(".withhold") for path in Path.cwd().iterdir())
    assert bucket.keys("out") == []


def test_other_objects_in_the_destination_are_left_alone(
    bucket: Bucket, source: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    bucket.put("out/mine.txt", b"mine")
    bucket.put("output/mine.txt", b"mine")
    assert "holds files that are not of this release" in refused(source, f"{bucket.url}/out")
    assert bucket.tree("out") == {"mine.txt": b"mine"}
    run(source, f"{bucket.url}/ou", settings(), make_uniform, private=tmp_path / "private")
    assert bucket.tree("ou") == expected
    assert bucket.tree("output") == {"mine.txt": b"mine"}


def test_leftovers_of_another_plan_are_not_mixed_with_a_new_one(
    bucket: Bucket, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination, private = f"{bucket.url}/out", tmp_path / "private"
    with monkeypatch.context() as broken:
        patch(broken, Breaking(3))  # the probe and some images of the first batch
        with pytest.raises(RunStopped):
            run(source, destination, settings(), make_uniform, private=private)
    left = bucket.keys("out")
    assert left
    with pytest.raises(InvalidInput, match="had planned otherwise and left objects"):
        run(source, destination, settings(lossless="webp"), never, private=private)
    assert bucket.keys("out") == left


@pytest.mark.parametrize("forbidden", ["ls", "info", "pipe_file"])
def test_what_is_not_permitted_is_refused_before_any_work(
    bucket: Bucket, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str
) -> None:
    there, attempts = bucket.put_tree("photos", source), []

    def guarded(name: str, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if name == forbidden:
            attempts.append(args[0])
            raise PermissionError("Access Denied")
        return operation(*args, **options)

    patch(monkeypatch, guarded)
    said = refused(there, f"{bucket.url}/out", private=tmp_path / "private")
    assert "the store does not permit it (Access Denied)" in said
    assert len(attempts) == 1
    assert not (tmp_path / "private").exists()


def protecting(*arguments: object) -> tuple[int, str]:
    quick = ("--steps", "1", "--epochs", "1", "--architecture", "resnet9")
    done = CliRunner().invoke(app, ["protect", *map(str, arguments), *quick])
    return done.exit_code, done.stderr


def test_the_command_line_takes_urls(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    there, private = bucket.put_tree("photos", source), tmp_path / "private"
    code, said = protecting(there, f"{bucket.url}/out", "--private", private, "--json", "--quiet")
    assert (code, said) == (0, "")
    assert "release.json" in bucket.keys("out")
    assert (private / "manifest.parquet").exists()


def test_missing_credentials_are_said(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    code, said = protecting(f"{bucket.url}/photos", f"{bucket.url}/out")
    assert code == 2
    assert "no credentials were found" in said
    assert "AWS_ACCESS_KEY_ID" in said


def test_an_endpoint_that_nobody_answers_at_is_said(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    code, said = protecting(f"{bucket.url}/photos", f"{bucket.url}/out")
    assert code == 2
    assert "the store failed 5 times" in said
    assert "127.0.0.1:9" in said


def test_waiting_for_a_store_has_an_end() -> None:
    assert sum(object_store.WAITS) < 10


def test_a_dataset_in_a_store_travels_without_its_connection(bucket: Bucket, source: Path) -> None:
    dataset = open_dataset(place_of(bucket.put_tree("photos", source)))
    entries = list(dataset.entries())
    travelled = pickle.loads(pickle.dumps(dataset))
    assert list(travelled.read(entries)) == [(source / entry.name).read_bytes() for entry in entries]


def test_of_a_bucket_that_is_not_there_nothing_is_there_for_a_cluster_either(bucket: Bucket) -> None:
    """The run then refuses it in words."""
    nowhere = place_of(f"{bucket.url}-missing/out")
    assert _existing(nowhere) is nowhere
    bucket.put("photos/a", b"a")
    assert str(_existing(place_of(f"{bucket.url}/photos/new/out"))) == f"{bucket.url}/photos"
