from pathlib import Path

import numpy as np
import pytest
import torch
from experiments.images import Cifar
from experiments.online import ALL_SIZES, RELEASES, Platform, Release, kept_shares, run
from experiments.specification import Size
from tests.online.protectors import NETWORK

from withhold.evaluation.competitor import Labelled
from withhold.online.settings import OnlineSettings


def line(release: str, best: float, seed: int = 0) -> dict[str, object]:
    return {"release": release, "seed": seed, "best": best}


def test_the_share_that_a_speed_keeps_is_that_of_fulls_drop() -> None:
    lines = [line("original", 80), line("full", 20), line("quick", 26), line("instant", 50)]
    assert kept_shares(lines) == pytest.approx({"full": 1, "quick": 0.9, "instant": 0.5})
    another = [line("original", 70, 1), line("full", 30, 1), line("quick", 30, 1)]
    assert kept_shares(lines + another) == pytest.approx({"full": 1, "quick": 0.94, "instant": 0.5})


def test_a_seed_without_its_controls_says_nothing() -> None:
    assert kept_shares([line("original", 80), line("quick", 26)]) == {}
    assert kept_shares([line("full", 20), line("quick", 26)]) == {}


def test_every_speed_is_released_with_and_without_labels() -> None:
    names = [release.name for release in RELEASES]
    assert names[:4] == ["original", "full", "quick", "instant"]
    assert names[4:] == ["full-unlabelled", "quick-unlabelled", "instant-unlabelled"]
    assert {"toy", "cpu"} <= set(ALL_SIZES)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    def some(seed: int) -> Labelled:
        images = np.random.default_rng(seed).integers(0, 256, (8, 3, 32, 32), np.uint8)
        return Labelled(torch.from_numpy(images), torch.arange(8) % 2)

    small = {"steps": 2, "quick_steps": 1, "generator_epochs": 1, "generator_width": 4, "generator_blocks": 1}
    settings = OnlineSettings.model_validate({**small, "lanes": 4, "device": "cpu"})
    size = Size(network=NETWORK, epochs=1, seeds=(0,))
    return Platform(some(0), Cifar(("a", "b"), some(1), some(2), some(3)), size, settings, tmp_path)


def test_new_images_are_released_by_a_protector_that_never_saw_them(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, measures = platform.release(Release("instant"), 0)
    change = (images.int() - platform.new.train.images.int()).abs()
    assert 0 < change.max() == measures["largest_change"] <= 8
    assert measures["labels_right"] == 1
    monkeypatch.setattr(Platform, "_protect", lambda *_: pytest.fail("it was kept"))
    assert torch.equal(platform.release(Release("instant"), 0)[0], images)


def test_a_line_holds_what_its_number_depends_on(platform: Platform) -> None:
    found = run(platform, Release("quick", labelled=False), 0, torch.device("cpu"))
    assert found["release"] == "quick-unlabelled"
    assert 0 <= found["best"] <= 100
    assert found["about"] == platform.about(0)
    assert found["about"] != platform.about(1)
    assert {"objective", "labels_right", "psnr", "ssim"} <= set(found["measures"])
