import math
from dataclasses import replace

import pytest

from withhold.evaluation.results import Cell, CellResult
from withhold.evaluation.verdict import attempts_of, judge

CHANCE = 0.1


def result(
    material: str,
    final: float,
    *,
    countermeasure: str = "none",
    best: float | None = None,
    seed: int = 0,
    network: str = "resnet9",
    diverged: str | None = None,
) -> CellResult:
    curve = () if diverged else (best if best is not None else final, final)
    return CellResult(
        cell=Cell(material, countermeasure, network, seed),
        config={},
        curve=curve,
        final=0.0 if diverged else final,
        per_class=(None,) * 2 if diverged else (final, None),
        losses=(1.0, 0.5),
        facts={},
        seconds=1.0,
        environment={},
        diverged=diverged,
    )


CLEAN = result("original", 0.9)


def test_seeds_are_gathered_with_mean_and_sample_deviation() -> None:
    attempts = attempts_of([result("released", 0.2, seed=1), CLEAN, result("released", 0.4, best=0.5, seed=0)])
    assert [attempt.material for attempt in attempts] == ["released", "original"]
    released = attempts[0]
    assert released.last is not None
    assert released.best is not None
    assert (released.last.mean, released.last.count) == pytest.approx((0.3, 2))
    assert released.last.deviation == pytest.approx(math.sqrt(0.02))
    assert released.best.mean == pytest.approx(0.35)
    assert released.curve == pytest.approx((0.35, 0.3))
    assert [each.cell.seed for each in released.results] == [0, 1]
    assert released.per_class[0] == pytest.approx(0.3)
    assert released.per_class[1] is None


def test_the_verdict_names_the_best_competitor_and_never_the_worst() -> None:
    results = [CLEAN, result("released", 0.12), result("released", 0.5, countermeasure="jpeg-10", best=0.6)]
    verdict = judge(attempts_of(results), CHANCE)
    assert verdict.strongest is not None
    assert verdict.strongest.countermeasure == "jpeg-10"
    assert verdict.kept == pytest.approx((0.6 - 0.1) / (0.9 - 0.1))
    for number in ("60.0 %", "90.0 %", "10.0 %", "62%", "jpeg-10", "2 competitors"):
        assert number in verdict.sentence
    assert "12.0 %" in verdict.caveats[0]


def test_the_best_epoch_counts_not_the_last() -> None:
    early = result("released", 0.1, best=0.7)
    steady = result("released", 0.3, countermeasure="cutout")
    verdict = judge(attempts_of([CLEAN, early, steady]), CHANCE)
    assert verdict.strongest is not None
    assert verdict.strongest.countermeasure == "none"


@pytest.mark.parametrize(
    ("accuracy", "grade"),
    [
        (0.88, "does not withhold"),
        (0.6, "less than half"),
        (0.4, "withholds part"),
        (0.15, "withheld most"),
    ],
)
def test_the_words_follow_the_share_that_is_left(accuracy: float, grade: str) -> None:
    assert grade in judge(attempts_of([CLEAN, result("released", accuracy)]), CHANCE).sentence


def test_a_diverged_training_is_no_protection() -> None:
    failed = result("released", 0.0, diverged="the loss is nan")
    verdict = judge(attempts_of([CLEAN, failed]), CHANCE)
    assert verdict.sentence.startswith("No verdict")
    assert verdict.kept is None
    assert any("diverged" in caveat for caveat in verdict.caveats)
    late = replace(failed, curve=(0.7, 0.6))
    reached = judge(attempts_of([CLEAN, late]), CHANCE)
    assert reached.strongest is not None
    assert reached.strongest.last is None
    assert "70.0 %" in reached.sentence
    assert "diverges in the end" in reached.caveats[0]
    both = judge(attempts_of([CLEAN, failed, result("released", 0.8, seed=1)]), CHANCE)
    assert both.strongest is not None
    assert both.strongest.last is not None
    assert both.strongest.last.mean == pytest.approx(0.8)


def test_a_control_that_learnt_nothing_gives_no_verdict() -> None:
    learnt = [result("original", 0.15), result("noise", 0.1), result("released", 0.16)]
    verdict = judge(attempts_of(learnt), CHANCE)
    assert verdict.sentence.startswith("No verdict")
    assert not any("protects" in caveat for caveat in verdict.caveats)


def test_a_competitor_with_images_of_its_own_is_stated_apart() -> None:
    results = [
        CLEAN,
        result("released", 0.2),
        result("released", 0.85, countermeasure="dilution-500"),
        result("released", 0.8, countermeasure="clean-500"),
    ]
    verdict = judge(attempts_of(results), CHANCE)
    assert verdict.strongest is not None
    assert verdict.strongest.countermeasure == "none"
    assert "The best of 1 competitor reached 20.0 %" in verdict.sentence
    assert "every tried competitor that trained on it alone" in verdict.sentence
    assert any("500 clean images" in c and "85.0 %" in c and "80.0 %" in c for c in verdict.caveats)


def test_competitors_with_images_of_their_own_alone_give_no_verdict_and_are_still_stated() -> None:
    verdict = judge(attempts_of([CLEAN, result("released", 0.85, countermeasure="dilution-500")]), CHANCE)
    assert verdict.sentence == "No verdict: no competitor was tried that trains on the release alone."
    assert any("85.0 %" in c and "those alone were not tried" in c for c in verdict.caveats)


def test_a_release_no_better_than_noise_and_a_suite_without_countermeasures_are_said() -> None:
    plain = judge(attempts_of([CLEAN, result("noise", 0.7), result("released", 0.75)]), CHANCE)
    assert any("Random noise" in caveat and "70.0 %" in caveat for caveat in plain.caveats)
    assert any("No countermeasure was tried" in caveat for caveat in plain.caveats)
    results = [CLEAN, result("noise", 0.7), result("released", 0.2), result("released", 0.3, countermeasure="grey")]
    caveats = judge(attempts_of(results), CHANCE).caveats
    assert not any("Random noise" in caveat or "No countermeasure" in caveat for caveat in caveats)


def test_partly_protected_releases_are_stated_beside_their_unprotected_rest() -> None:
    results = [CLEAN, result("released", 0.2), result("released-50", 0.7), result("rest-50", 0.68)]
    verdict = judge(attempts_of(results), CHANCE)
    assert verdict.strongest is not None
    assert verdict.strongest.material == "released"
    assert any("50 %" in c and "70.0 %" in c and "68.0 %" in c for c in verdict.caveats)


def test_what_was_not_tried_and_few_seeds_are_said() -> None:
    verdict = judge(attempts_of([CLEAN, result("released", 0.2)]), CHANCE, ["dp-sgd (install it)"])
    assert any("dp-sgd (install it)" in caveat for caveat in verdict.caveats)
    assert any("1 training;" in caveat for caveat in verdict.caveats)
    share = {"original": 0.9, "released": 0.5}
    seeds = [result(kind, share[kind], seed=seed) for kind in share for seed in range(3)]
    assert not any("--seeds" in caveat for caveat in judge(attempts_of(seeds), CHANCE).caveats)


def test_kept_stays_between_none_and_all() -> None:
    assert judge(attempts_of([CLEAN, result("released", 0.05)]), CHANCE).kept == 0.0
    better = judge(attempts_of([CLEAN, result("released", 0.95)]), CHANCE)
    assert better.kept == 1.0
    assert any("protects nothing" in caveat for caveat in better.caveats)
