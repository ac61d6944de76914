from typing import Any

import pytest
from experiments.specification import Experiment

from experiments import report


def line(release: str, best: float, last: float, *, countermeasure: str = "none", network: str = "resnet9") -> Any:  # noqa: ANN401
    return {
        "release": release,
        "countermeasure": countermeasure,
        "network": network,
        "best": best,
        "last": last,
        "curve": [best, last],
        "diverged": None,
    }


def experiment(**changes: Any) -> Experiment:  # noqa: ANN401
    return Experiment(title="t", question="q", columns="trials", **changes)


def test_the_weakest_point_compares_means_at_the_best_epoch_and_leaves_images_of_their_own_out() -> None:
    lines = [
        line("class-targeted", 30, 15),
        line("class-targeted", 40, 20, countermeasure="jpeg-10"),
        line("class-targeted", 60, 20, countermeasure="jpeg-10"),
        line("class-targeted", 55, 50, countermeasure="grey"),
        line("class-targeted", 80, 80, countermeasure="dilution-4000"),
    ]
    lines += [line("originals", 70, 70), line("originals", 60, 60, countermeasure="grey")]
    lines += [line("originals", 54, 54, countermeasure="jpeg-10")]
    one = experiment(releases=[{"name": "originals", "kind": "original"}, {"name": "class-targeted"}])
    said = next(said for said in report.failures(one, lines) if "class-targeted" in said)
    assert "weakest against grey: 55.0 % at the best epoch" in said
    assert "training as usual gives 30.0 % and the originals 70.0 %" in said
    assert said.endswith(
        "2 of 2 countermeasures win back at least half of what was withheld: grey (55.0), jpeg-10 (50.0). "
        "Training with these gets what it would get from the originals, within 5 points: jpeg-10 (50.0 of 54.0)."
    )


def test_half_of_the_loss_is_measured_from_training_as_usual() -> None:
    lines = [line("originals", 80, 80), line("x", 40, 40), line("x", 59.9, 50, countermeasure="grey")]
    one = experiment(releases=[{"name": "originals", "kind": "original"}, {"name": "x"}])
    said = next(said for said in report.failures(one, lines) if said.startswith("* **x**"))
    assert "0 of 1 countermeasures" in said


def test_likeness_is_gathered_for_releases_that_were_measured() -> None:
    lines = [line("a", 30, 20) | {"measures": {"psnr": 30.0, "ssim": 0.9}}, line("b", 50, 40) | {"measures": {}}]
    lines.append(line("a", 50, 20) | {"measures": {"psnr": 34.0, "ssim": 0.8}})
    assert report.likeness_of(lines) == {"a": {"psnr": 32.0, "ssim": pytest.approx(0.85), "accuracy": 40}}


def test_curves_of_other_networks_are_drawn_and_not_averaged_together() -> None:
    lines = [line("crafted on resnet9", 30, 15), line("crafted on resnet9", 70, 60, network="vgg19")]
    curves = report.shown(lines)
    assert curves == {"crafted on resnet9, resnet9": [[30, 15]], "crafted on resnet9, vgg19": [[70, 60]]}
