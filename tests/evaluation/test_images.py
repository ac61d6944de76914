import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.datasets import BOUND, CLASSES, SIDE, Folders, changed, folders, stripes, write

from withhold.errors import InvalidInput
from withhold.evaluation import images
from withhold.evaluation.images import Sets, load_sets
from withhold.evaluation.matching import Sources, choose_images
from withhold.evaluation.settings import EvaluateSettings

SETTINGS = EvaluateSettings()


@pytest.fixture
def data(tmp_path: Path) -> Folders:
    return folders(tmp_path)


def loaded(data: Folders, clean: Path | None = None, settings: EvaluateSettings = SETTINGS) -> Sets:
    chosen = choose_images(Sources(data.originals, data.released, data.test, clean), settings)
    return load_sets(chosen, SIDE, "native", BOUND, seed=0)


def test_originals_and_released_images_come_in_the_same_order(data: Folders) -> None:
    sets = loaded(data)
    expected, _ = stripes(48, seed=0)
    order = [index for label in range(2) for index in range(48) if index % 2 == label]  # folder by folder
    assert torch.equal(sets.original.images.permute(0, 2, 3, 1), torch.from_numpy(expected[order]))
    assert torch.equal(sets.released.images.permute(0, 2, 3, 1), torch.from_numpy(changed(expected)[order]))
    assert sets.original.labels.tolist() == [0] * 24 + [1] * 24
    assert torch.equal(sets.original.labels, sets.released.labels)


def test_the_noise_control_changes_every_value_by_the_bound_within_the_range(data: Folders) -> None:
    sets = loaded(data)
    change = sets.noise.images.int() - sets.original.images.int()
    inside = (sets.original.images >= BOUND) & (sets.original.images <= 255 - BOUND)
    assert set(change[inside].abs().tolist()) == {BOUND}
    assert change.abs().max() == BOUND
    assert abs(float(change[inside].float().mean())) < 0.2


def test_noise_differs_from_image_to_image(data: Folders) -> None:
    sets = loaded(data)
    change = sets.noise.images.int() - sets.original.images.int()
    assert len({each.numpy().tobytes() for each in change}) == len(change)


def test_test_images_follow_the_originals_numbering_of_classes(data: Folders, tmp_path: Path) -> None:
    pixels, labels = stripes(6, seed=4)
    reordered = tmp_path / "reordered"
    write(reordered, pixels, labels, CLASSES)
    sets = loaded(Folders(data.originals, data.released, reordered))
    assert sets.test.labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: shutil.rmtree(data.released / CLASSES[0]), "lacks the classes across"),
        (lambda data: (data.released / CLASSES[0]).rename(data.released / "other"), "unknown classes other"),
        (lambda data: next((data.released / CLASSES[0]).iterdir()).unlink(), "1 of the originals are not in it"),
        (lambda data: next((data.originals / CLASSES[0]).iterdir()).unlink(), "1 of its images belong to no original"),
        (lambda data: (data.test / CLASSES[1]).rename(data.test / "else"), "has other classes than the originals"),
    ],
)
def test_sets_that_do_not_match_are_refused_with_what_differs(data: Folders, spoil: object, said: str) -> None:
    assert callable(spoil)
    spoil(data)
    with pytest.raises(InvalidInput, match=said):
        choose_images(Sources(data.originals, data.released, data.test), SETTINGS)


def test_swapped_originals_and_release_are_refused(data: Folders) -> None:
    (data.released / "release.json").write_text("{}")
    choose_images(Sources(data.originals, data.released, data.test), SETTINGS)
    with pytest.raises(InvalidInput, match="give the originals first"):
        choose_images(Sources(data.released, data.originals, data.test), SETTINGS)


@pytest.mark.parametrize("of", ["originals", "released"])
def test_a_test_image_that_was_trained_on_is_refused_by_its_pixels(data: Folders, of: str) -> None:
    source = getattr(data, of) / CLASSES[0] / "000.png"
    copy = data.test / CLASSES[0] / "copy.png"
    copy.write_bytes(source.read_bytes() + b"other bytes, the same pixels")
    with pytest.raises(InvalidInput, match=r"1 images of the test set are also in the training set, such as .*copy"):
        loaded(data)


def test_clean_images_that_are_test_images_are_refused(data: Folders) -> None:
    with pytest.raises(InvalidInput, match="the competitor's clean images are also in the test set"):
        loaded(data, clean=data.test)


def test_images_of_each_class_can_be_limited(data: Folders) -> None:
    sets = loaded(data, settings=EvaluateSettings(per_class=5))
    assert sets.original.labels.tolist() == [0] * 5 + [1] * 5
    again = loaded(data, settings=EvaluateSettings(per_class=5))
    other = loaded(data, settings=EvaluateSettings(per_class=5, seed=1))
    assert torch.equal(sets.original.images, again.original.images)
    assert not torch.equal(sets.original.images, other.original.images)
    assert sets.digests["released"] == again.digests["released"] != other.digests["released"]


def test_large_images_are_stored_larger_than_the_network_sees_them(tmp_path: Path) -> None:
    data = folders(tmp_path, count=8, side=128)
    chosen = choose_images(Sources(data.originals, data.released, data.test), SETTINGS)
    assert chosen.sizes().uniform_side == 128
    sets = load_sets(chosen, 56, "crop", BOUND, seed=0)
    assert sets.original.images.shape == (8, 3, 64, 64)
    assert sets.test.images.shape == (20, 3, 56, 56)


def test_more_than_memory_holds_is_refused(data: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "HELD_BYTES", 1000)
    with pytest.raises(InvalidInput, match="--per-class"):
        loaded(data)


def test_an_unreadable_test_image_is_named(data: Folders) -> None:
    (data.test / CLASSES[0] / "broken.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InvalidInput, match=r"an image of the test set is unusable: across/broken\.png cannot be read"):
        loaded(data)


def test_digests_follow_the_pixels(data: Folders) -> None:
    before = loaded(data).digests
    pixels = np.asarray(stripes(2, seed=77)[0])
    write(data.released, pixels[:1], np.array([0]))
    after = loaded(data).digests
    assert {name for name in before if before[name] != after[name]} == {"released"}
