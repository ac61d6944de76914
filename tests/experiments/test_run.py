import json
from pathlib import Path

import pytest
import torch
from experiments.images import Cifar, Owner, likeness
from experiments.run import about, finished, stored
from experiments.specification import Experiment, Release, Size, units

from withhold.evaluation.competitor import Labelled
from withhold.release.settings import ProtectSettings

SIZE = Size()
NOISE = {"name": "noise", "kind": "noise", "countermeasures": ["none"]}
LINE = {"release": "a", "countermeasure": "none", "network": "resnet9", "seed": 0}


@pytest.mark.parametrize("half", ["", '{"release": "b", "coun'])
def test_half_a_last_line_is_cut_off_and_the_others_stay(tmp_path: Path, half: str) -> None:
    path = tmp_path / "results.jsonl"
    whole = json.dumps(LINE) + "\n"
    path.write_text(whole + half)
    assert stored(path) == [LINE]
    assert path.read_text() == whole
    assert stored(tmp_path / "absent.jsonl") == []


def test_a_line_counts_only_for_what_the_file_still_says() -> None:
    release = {"name": "a", "settings": {"steps": 5}}
    one = Experiment(title="t", question="q", releases=[release])
    line = {**LINE, "about": about(one, one.releases[0], SIZE)}
    assert finished([line], one, SIZE) == {("a", "none", "resnet9", 0)}
    other = Experiment(title="t", question="q", releases=[{**release, "settings": {"steps": 6}}])
    assert finished([line], other, SIZE) == set()
    assert finished([line], one, Size(epochs=99)) == set()
    assert finished([line], one, Size(seeds=(5,))) != set()
    assert finished([{**LINE, "release": "gone", "origin": "before"}], one, SIZE) == set()
    assert finished([{**LINE, "origin": "an earlier script"}], one, SIZE) != set()


@pytest.mark.parametrize("share", [25, 100])
def test_a_share_of_a_release_is_protected_and_the_rest_original(tmp_path: Path, share: int) -> None:
    original = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 32, 32).contiguous()
    part = Labelled(original, torch.arange(8) % 2)
    owner = Owner(Cifar(("a", "b"), part, part, part), SIZE, torch.device("cpu"), tmp_path)
    owner._craft = lambda *_: (original + 100, {"surrogate_on_released": 0.5})  # type: ignore[method-assign]
    released = owner.release(Release(name="x", share=share), ProtectSettings(), seed=0)
    changed = (released.images != original).flatten(1).all(1)
    assert int(changed.sum()) == 8 * share // 100
    assert torch.equal(released.images, torch.where(changed[:, None, None, None], original + 100, original))
    assert ("surrogate_on_released" in released.measures) == (share == 100)


def test_likeness_is_of_the_images_that_were_published() -> None:
    images = torch.full((2, 3, 32, 32), 100, dtype=torch.uint8)
    moved = images.clone()
    moved[0] += 8
    measured = likeness(images, moved)
    assert measured["psnr"] == pytest.approx(30.07, abs=0.01)  # 20 log10(255 / 8)
    assert 0.9 < measured["ssim"] < 1
    assert likeness(images, images) == {"ssim": 1.0}


def test_cheap_trials_of_all_releases_come_first_and_only_those_of_the_size() -> None:
    one = Experiment(
        title="t",
        question="q",
        releases=[{"name": "a", "kind": "original"}, {"name": "b"}, {"name": "big", "sizes": ["gpu"]}, NOISE],
        trials=[
            {"countermeasure": "adversarial-8"},
            {"countermeasure": "clean-500", "releases": ["a"]},
            {"countermeasure": "none"},
            {"network": "resnet18", "sizes": ["gpu"]},
        ],
    )
    listed = [(unit.trial.countermeasure, unit.release.name) for unit in units(one, "small")]
    assert listed[-2:] == [("adversarial-8", "a"), ("adversarial-8", "b")]
    assert sorted(listed[:-2]) == [("clean-500", "a"), ("none", "a"), ("none", "b"), ("none", "noise")]
    assert {unit.release.name for unit in units(one, "gpu")} == {"a", "b", "big", "noise"}
