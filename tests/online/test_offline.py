from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.online.protectors import CLASSES, pixels, tiny

from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.online.offline import dry_run_with, protect_with, settings_with
from withhold.online.protector import Protector
from withhold.online.settings import SPEEDS, SpeedName
from withhold.release.settings import ProtectSettings


def photos(root: Path, classes: tuple[str, ...]) -> Path:
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(3):
            size = (16, 16) if index else (24, 18)
            Image.fromarray(pixels(100 * CLASSES.index(name) + index, *size)).save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize("speed", ["full", "instant"])
@pytest.mark.parametrize("classes", [CLASSES, ("dog", "owl")])
def test_a_dataset_comes_out_as_its_images_do_one_by_one(
    tmp_path: Path, speed: SpeedName, classes: tuple[str, ...]
) -> None:
    """Also where the dataset numbers its classes otherwise than the protector does."""
    source = photos(tmp_path / "photos", classes)
    protector = Protector.load(tiny(tmp_path / "protector"))
    report = protect_with(source, tmp_path / "released", protector, ProtectSettings(batch_size=2), speed=speed)
    assert report.verification.passed
    assert report.images == 3 * len(classes)
    for path in sorted(source.rglob("*.png")):
        alone = protector.protect(path, path.parent.name, speed=speed).picture.levels
        with Image.open(tmp_path / "released" / path.relative_to(source)) as image:
            assert np.array_equal(np.asarray(image), alone)


def test_a_class_that_the_protector_does_not_know_is_refused(tmp_path: Path, protector: Protector) -> None:
    source = photos(tmp_path / "photos", ("cat", "dog"))
    (source / "cat").rename(source / "lynx")
    with pytest.raises(InvalidInput, match="knows 3 classes, and not lynx"):
        protect_with(source, tmp_path / "released", protector)
    assert not (tmp_path / "released.withhold").exists()


def test_a_run_chooses_the_images_and_the_protector_the_rest(tmp_path: Path) -> None:
    protector = Protector.load(tiny(tmp_path / "p", eps="4/255", lossless="webp", splits=("train",), batch_size=7))
    combined = settings_with(protector, ProtectSettings(splits=("test",)))
    assert (combined.splits, combined.lossless, combined.batch_size) == (("test",), "webp", 256)
    assert (str(combined.eps), combined.steps, combined.device) == ("4/255", 3, "cpu")
    assert settings_with(protector, ProtectSettings()).splits == ()
    assert settings_with(protector, ProtectSettings(lossless="png")).lossless == "png"
    assert type(combined) is ProtectSettings


def test_settings_that_the_protector_fixes_are_refused_by_name(tmp_path: Path, protector: Protector) -> None:
    source = photos(tmp_path / "photos", CLASSES)
    for work in (protect_with, dry_run_with):
        with pytest.raises(InvalidInput, match="fixes eps, steps: leave that out"):
            work(source, tmp_path / "released", protector, ProtectSettings(steps=99, eps="8/255", batch_size=4))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("speed", ["full", "instant"])
def test_a_dry_run_plans_the_same_and_writes_nothing(tmp_path: Path, protector: Protector, speed: SpeedName) -> None:
    source = photos(tmp_path / "photos", ("dog", "owl"))
    planned = dry_run_with(source, tmp_path / "released", protector, speed=speed)
    assert (planned.images, planned.classes, planned.training_seconds) == (6, 2, None)
    assert planned.crafting_seconds > 0
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    done = protect_with(source, tmp_path / "released", protector, speed=speed)
    assert (done.images, done.batches) == (planned.images, planned.batches)


def test_an_estimate_counts_every_step_of_a_speed(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that only crafting moves, by what a pass over the images and each step of it take."""
    now, steps_of = [0.0], protector.document.speeds
    crafted = protector.craft

    def craft(pictures: list[Picture], labels: list[int], speed: SpeedName, *, steps: int | None = None) -> Any:  # noqa: ANN401
        now[0] += len(pictures) * (2 + 10 * (steps_of[speed].steps if steps is None else steps))
        return crafted(pictures, labels, speed, steps=steps)

    monkeypatch.setattr(protector, "craft", craft)
    monkeypatch.setattr("withhold.release.dry_run.time.monotonic", lambda: now[0])
    source = photos(tmp_path / "photos", ("dog", "owl"))
    for speed in SPEEDS:
        planned = dry_run_with(source, tmp_path / "released", protector, speed=speed)
        assert planned.crafting_seconds == pytest.approx(planned.images * (2 + 10 * steps_of[speed].steps))
