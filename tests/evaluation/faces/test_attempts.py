import pytest
from tests.evaluation.faces.attempts import attempts, result

from withhold.evaluation.results import Spread


def test_results_are_gathered_over_seeds_in_the_order_of_their_first() -> None:
    found = attempts(
        result("alone", "original", 0.8), result("stranger", "original", 0.7), result("alone", "original", 0.6, seed=1)
    )
    assert [attempt.scenario for attempt in found] == ["alone", "stranger"]
    alone = found[0]
    assert alone.rank1 is not None
    assert alone.rank1.mean == pytest.approx(0.7)
    assert alone.rank1.count == 2
    assert alone.rank1.deviation == pytest.approx(0.2 / 2**0.5)
    assert [each.cell.seed for each in alone.results] == [0, 1]
    assert alone.says == "Train a recogniser only on the published pictures."
    assert alone.chance == 1 / 50


def test_heads_and_materials_are_attempts_of_their_own() -> None:
    found = attempts(result(head="cosface"), result(head="arcface"), result(head="arcface", material="noise"))
    assert [(attempt.head, attempt.material) for attempt in found] == [
        ("cosface", "released"),
        ("arcface", "released"),
        ("arcface", "noise"),
    ]


def test_the_best_of_a_seed_is_its_templates_or_its_head_in_time() -> None:
    by_head = result(rank1=0.2, curve=(0.1, 0.4, 0.3))
    by_templates = result(rank1=0.5, curve=(0.1, 0.3), seed=1)
    assert (by_head.best, by_templates.best) == (0.4, 0.5)
    (found,) = attempts(by_head, by_templates)
    assert found.best is not None
    assert found.best.mean == pytest.approx(0.45)
    assert found.best_head is not None
    assert found.best_head.mean == pytest.approx(0.35)


def test_a_seed_that_ended_early_does_not_cut_the_curve_of_the_others() -> None:
    whole = [result(curve=(0.1, 0.4, 0.3)), result(curve=(0.3, 0.4, 0.5), seed=1)]
    (found,) = attempts(*whole, result(rank1=None, curve=(0.9,), seed=2))
    assert found.curve == pytest.approx((0.2, 0.4, 0.4))


def test_a_diverged_seed_counts_by_what_it_reached_before() -> None:
    (found,) = attempts(result(rank1=None, curve=(0.3,)), result(rank1=0.1, seed=1))
    assert found.diverged == 1
    assert found.best == Spread.of([0.3, 0.1])
    assert found.rank1 == Spread.of([0.1])
    (nothing,) = attempts(result(rank1=None))
    assert (nothing.best, nothing.rank1, nothing.crowd, nothing.accepts) == (None, None, (), ())


def test_crowds_and_accepts_are_summed_up_by_column() -> None:
    (found,) = attempts(result(rank1=0.4), result(rank1=0.6, seed=1))
    assert [(count, spread.mean) for count, spread in found.crowd] == [(10, pytest.approx(0.5)), (20, 0.0)]
    assert [(far, spread.mean) for far, spread in found.accepts] == [(0.1, 0.5), (0.01, 0.5)]
