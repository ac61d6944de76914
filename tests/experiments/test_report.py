from typing import Any

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
    one = experiment(releases=[{"name": "class-targeted"}])
    (said, _) = report.strongest(one, lines)
    assert "weakest against grey: 55.0 % at the best epoch, 30.0 % without any" in said


def test_curves_of_other_networks_are_drawn_and_not_averaged_together() -> None:
    lines = [line("crafted on resnet9", 30, 15), line("crafted on resnet9", 70, 60, network="vgg19")]
    curves = report.shown(lines)
    assert curves == {"crafted on resnet9, resnet9": [[30, 15]], "crafted on resnet9, vgg19": [[70, 60]]}
