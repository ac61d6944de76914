from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.online.protectors import CLASSES, pixels, tiny

from withhold.errors import InvalidInput
from withhold.online.offline import protect_with, settings_with
from withhold.online.protector import Protector
from withhold.online.settings import SpeedName
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
    protector = Protector.load(tiny(tmp_path / "p", eps="4/255"))
    combined = settings_with(protector, ProtectSettings(eps="8/255", splits=("train",), lossless="webp", steps=99))
    assert (combined.splits, combined.lossless) == (("train",), "webp")
    assert (str(combined.eps), combined.steps, combined.device) == ("4/255", 3, "cpu")
    assert type(combined) is ProtectSettings
