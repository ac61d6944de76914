import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.release.fakes import (
    CLASSES,
    Listener,
    UniformCrafter,
    class_folders,
    interrupted,
    make_uniform,
    never,
    pixels,
    png,
    settings,
    stopping,
    tree,
)

from withhold.data.open import open_dataset
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput, RunStopped
from withhold.release.crafting import Crafted, Shown
from withhold.release.materials import Materials
from withhold.release.run import run

PUBLIC = {"tool", "version", "eps", "images", "classes", "layout"}


def test_a_release_has_the_images_and_public_facts_and_no_more(source: Path, tmp_path: Path) -> None:
    listener = Listener()
    report = run(source, tmp_path / "out", settings(), make_uniform, listener)
    images = {f"{name}/{index}.png" for name in CLASSES for index in range(4)}
    assert set(tree(tmp_path / "out")) == images | {"release.json"}
    public = json.loads((tmp_path / "out" / "release.json").read_bytes())
    assert set(public) == PUBLIC
    assert (public["eps"], public["images"], public["classes"], public["layout"]) == ("8/255", 12, 3, "folder")
    assert (report.images, report.crafted, report.classes, report.batches) == (12, 12, 3, 3)
    assert report.verification.passed
    assert report.verification.largest_change == 8
    assert 0 < report.crafting_seconds <= report.working_seconds <= report.seconds
    assert [task for task, _ in listener.tasks] == ["Reading the source", "Crafting", "Verifying"]


def test_the_manifest_maps_every_image_privately(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "out", settings(eps="4/255"), make_uniform)
    rows = pq.read_table(tmp_path / "out.withhold" / "manifest.parquet").to_pylist()
    assert [row["name"] for row in rows] == [f"{name}/{index}.png" for name in CLASSES for index in range(4)]
    row = rows[5]
    assert (row["released_name"], row["label"], row["class"]) == ("dog/1.png", 1, "dog")
    original, released = ((root / "dog" / "1.png").read_bytes() for root in (source, tmp_path / "out"))
    assert row["sha256"] == hashlib.sha256(original).hexdigest()
    assert row["released_sha256"] == hashlib.sha256(released).hexdigest()
    assert row["largest_change"] == 4
    assert row["psnr"] == pytest.approx(20 * np.log10(255 / 4), abs=1e-3)  # every pixel moved by four levels
    assert 0.9 < row["ssim"] < 1
    assert (row["loss"], row["alignment"], row["sign_agreement"]) == (1, 0.5, 0.25)
    assert report.quality.psnr == pytest.approx(np.mean([each["psnr"] for each in rows]), abs=1e-3)


def test_the_same_plan_gives_the_same_bytes_and_another_seed_others(source: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        run(source, tmp_path / name, settings(seed=seed), make_uniform)
    assert tree(tmp_path / "one") == tree(tmp_path / "two") != tree(tmp_path / "three")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "dog" / "2.png").write_bytes(png(pixels(99))), r"dog/2\.png changed"),
        (lambda root: (root / "dog" / "2.png").unlink(), r"dog/2\.png removed"),
        (lambda root: shutil.copy(root / "dog" / "2.png", root / "dog" / "8.png"), r"dog/8\.png added"),
        (lambda root: (root / "dog").rename(root / "ape"), r"ape/0\.png, .* added; dog/0\.png, .* removed"),
    ],
    ids=["changed", "removed", "added", "class renamed"],
)
def test_a_changed_source_is_not_resumed_and_the_image_is_named(
    change: Callable[[Path], object], message: str, source: Path, tmp_path: Path
) -> None:
    interrupted(source, tmp_path / "out")
    change(source)
    with pytest.raises(InvalidInput, match=message):
        run(source, tmp_path / "out", settings(), never)


def unreadable(source: Path, count: int) -> None:
    for index in range(count):
        (source / "cat" / f"bad{index:02d}.png").write_bytes((source / "cat" / "0.png").read_bytes()[:80])


def test_unreadable_images_are_listed_before_any_work(source: Path, tmp_path: Path) -> None:
    unreadable(source, 23)
    (source / "owl" / "empty.png").write_bytes(b"")
    with pytest.raises(InvalidInput) as caught:
        run(source, tmp_path / "out", settings(), never)
    message = str(caught.value)
    assert message.startswith("24 images cannot be read:")
    assert all(f"cat/bad{index:02d}.png: " in message for index in range(20))
    assert "and 4 more" in message
    assert "--skip-unreadable" in message
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_skipped_images_are_reported_and_in_no_release(source: Path, tmp_path: Path) -> None:
    unreadable(source, 2)
    report = run(source, tmp_path / "out", settings(skip_unreadable=True), make_uniform)
    assert report.skipped == report.verification.skipped == ("cat/bad00.png", "cat/bad01.png")
    assert report.images == 12
    assert not list((tmp_path / "out").rglob("bad*"))
    assert run(source, tmp_path / "out", settings(skip_unreadable=True), never).skipped == report.skipped


def test_files_that_are_no_images_are_reported_and_in_no_release(source: Path, tmp_path: Path) -> None:
    (source / "cat" / "0.psd").write_bytes(b"an original")
    report = run(source, tmp_path / "out", settings(), make_uniform)
    assert report.ignored == ("cat/0.psd",)
    assert not list((tmp_path / "out").rglob("*.psd"))


def test_one_class_is_refused(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in")
    for name in CLASSES[1:]:
        shutil.rmtree(source / name)
    with pytest.raises(InvalidInput, match=r"at least two classes, got 1 \('cat'\)"):
        run(source, tmp_path / "out", settings(), never)


def test_a_class_with_one_image_is_named(source: Path, tmp_path: Path) -> None:
    for index in range(1, 4):
        (source / "dog" / f"{index}.png").unlink()
    with pytest.raises(InvalidInput, match="two images or more, got one in 'dog'"):
        run(source, tmp_path / "out", settings(), never)


def test_a_class_with_one_readable_image_is_named(source: Path, tmp_path: Path) -> None:
    for index in range(1, 4):
        (source / "dog" / f"{index}.png").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match="'dog'"):
        run(source, tmp_path / "out", settings(skip_unreadable=True), never)
    assert not (tmp_path / "out.withhold").exists()


def test_greyscale_that_webp_cannot_hold_is_refused_before_any_work(source: Path, tmp_path: Path) -> None:
    Image.fromarray(pixels(5)[..., 0]).save(source / "cat" / "grey.bmp")
    with pytest.raises(InvalidInput, match=r"cat/grey\.bmp cannot be released: WebP"):
        run(source, tmp_path / "out", settings(lossless="webp"), never)
    assert run(source, tmp_path / "out", settings(), make_uniform).images == 13


def test_perturbations_that_are_not_finite_stop_the_run(source: Path, tmp_path: Path) -> None:
    class Broken(UniformCrafter):
        def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
            crafted = super().__call__(pictures, shown, seed)
            crafted.deltas[1][0, 0, 0] = np.nan
            return crafted

    with pytest.raises(RunStopped, match=r"\w+/\d\.png gave numbers that are not finite"):
        run(source, tmp_path / "out", settings(), lambda materials: Broken(float(materials.settings.eps)))
    assert not (tmp_path / "out").exists()


def test_an_image_that_crafting_left_as_it_was_stops_the_run(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="unprotected"):
        run(source, tmp_path / "out", settings(), lambda _: UniformCrafter(0.0))
    assert not (tmp_path / "out").exists()


def test_perturbations_beyond_the_bound_are_cut_to_it(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "out", settings(), lambda _: UniformCrafter(0.5))
    assert report.verification.largest_change == 8


def test_the_message_of_any_failure_arrives_and_no_thread_stays(source: Path, tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError("of the crafter")

    with pytest.raises(ZeroDivisionError, match="of the crafter"):
        run(source, tmp_path / "out", settings(), stopping(fail))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("withhold")]
    assert run(source, tmp_path / "out", settings(), make_uniform).images == 12


def test_only_the_named_splits_are_released(tmp_path: Path) -> None:
    class_folders(tmp_path / "in" / "train")
    class_folders(tmp_path / "in" / "test")
    report = run(tmp_path / "in", tmp_path / "out", settings(splits=("train",)), make_uniform)
    assert report.images == 12
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "release.json"}
    assert report.verification.passed


def test_the_crafter_gets_the_plan_and_a_place_for_weights_outside_the_release(source: Path, tmp_path: Path) -> None:
    seen: list[Materials] = []

    def make(materials: Materials) -> UniformCrafter:
        seen.append(materials)
        return make_uniform(materials)

    run(source, tmp_path / "out", settings(), make)
    (materials,) = seen
    assert list(materials.entries) == list(open_dataset(source).entries())
    assert materials.surrogate_file.parent == tmp_path / "out.withhold"
