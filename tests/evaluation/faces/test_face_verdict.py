import pytest
from tests.evaluation.faces.attempts import attempts, controlled, result

from withhold.evaluation.faces.results import FaceResult, FaceVerdict
from withhold.evaluation.faces.verdict import judge

CHANCE = 0.02


def judged(*results: FaceResult, not_tried: tuple[str, ...] = ()) -> FaceVerdict:
    return judge(attempts(*results), not_tried)


def test_a_release_that_protects_is_said_to_with_its_numbers() -> None:
    verdict = judged(*controlled("alone", 0.06))
    assert verdict.kept == pytest.approx((0.06 - CHANCE) / (0.8 - CHANCE))
    assert verdict.sentence.startswith("This release withheld most of its training value")
    for words in (
        "softmax, iresnet10-narrow",
        "at most 6.0 % of 50 clean pictures",
        "among 50 people",
        "80.0 %",
        "guessing 2.0 %",
    ):
        assert words in verdict.sentence
    assert verdict.sentence.endswith("5% of the training value is left.")
    assert verdict.findings[0].holds is True


def test_a_release_that_does_not_protect_is_said_not_to() -> None:
    verdict = judged(*controlled("alone", 0.79))
    assert verdict.sentence.startswith("This release does not withhold its training value.")
    assert verdict.findings[0].holds is False
    assert "does not hold here" in verdict.findings[0].sentence
    assert "It does not hold, or only in part, in alone; see the sentence of each." in verdict.caveats


@pytest.mark.parametrize("clean", [0.02, 0.1, 0.26])
def test_without_a_working_control_there_is_no_verdict(clean: float) -> None:
    verdict = judged(*controlled("alone", 0.03, clean=clean))
    assert verdict.sentence.startswith("No verdict: training on the originals themselves gave only")
    assert verdict.kept is None
    assert verdict.findings[0].holds is None
    assert "nothing follows" in verdict.findings[0].sentence


def test_a_control_works_from_a_quarter_of_the_way() -> None:
    assert judged(*controlled("alone", 0.03, clean=0.265)).kept is not None


def test_without_training_on_the_release_alone_there_is_no_headline() -> None:
    verdict = judged(*controlled("stranger", 0.7))
    assert verdict.sentence.startswith("No verdict: training on the release alone was not tried")


def test_a_release_on_which_every_training_diverged_is_not_called_protected() -> None:
    verdict = judged(result("alone", "original", 0.8), result("alone", "released", None))
    assert "diverged, which is no protection" in verdict.sentence
    assert verdict.findings[0].holds is None
    assert any("1 training diverged" in caveat for caveat in verdict.caveats)


def test_the_best_head_counts_on_either_side() -> None:
    verdict = judged(
        result("alone", "original", 0.7),
        result("alone", "original", 0.8, head="arcface"),
        result("alone", "released", 0.05),
        result("alone", "released", 0.3, head="cosface"),
    )
    assert verdict.kept == pytest.approx((0.3 - CHANCE) / (0.8 - CHANCE))
    assert "cosface" in verdict.sentence


def test_a_head_that_was_right_at_some_epoch_counts() -> None:
    verdict = judged(result("alone", "original", 0.8), result("alone", "released", 0.05, curve=(0.5, 0.1)))
    assert verdict.kept == pytest.approx((0.5 - CHANCE) / (0.8 - CHANCE))


def test_a_stranger_is_never_claimed_to_be_stopped() -> None:
    strong, weak = (judged(*controlled("stranger", rate)).findings[0] for rate in (0.7, 0.05))
    assert (strong.holds, weak.holds) == (False, None)
    assert "is no cloak" in strong.sentence
    assert "no method of this kind promises" in weak.sentence


@pytest.mark.parametrize("scenario", ["mixed", "fine-tuned", "immune"])
def test_each_scenario_has_a_sentence_with_its_own_controls(scenario: str) -> None:
    finding = judged(*controlled("alone", 0.06), *controlled(scenario, 0.35, clean=0.7, noise=0.66)).findings[1]
    assert finding.scenario == scenario
    for words in ("35.0 %", "70.0 %", "random noise of the same size 66.0 %", "guessing 2.0 %", "holds in part only"):
        assert words in finding.sentence
    assert finding.kept == pytest.approx((0.35 - CHANCE) / (0.7 - CHANCE))


def test_old_releases_are_measured_from_what_the_older_pictures_give_alone() -> None:
    older = result("old-alone", "original", 0.4)
    (finding,) = judged(*controlled("old-releases", 0.44), older).findings
    assert finding.kept == pytest.approx(0.1)
    assert "the older pictures alone 40.0 %" in finding.sentence
    assert finding.holds is True
    (enough,) = judged(*controlled("old-releases", 0.79), result("old-alone", "original", 0.79)).findings
    assert enough.kept is None
    assert "the older ones suffice already" in enough.sentence


def test_without_the_older_pictures_alone_nothing_follows_about_old_releases() -> None:
    (finding,) = judged(*controlled("old-releases", 0.44)).findings
    assert (finding.kept, finding.holds) == (None, None)
    assert "old-alone" in finding.sentence


def test_originals_that_teach_no_more_than_likeness_gives_are_no_control() -> None:
    def kept(untrained: float) -> float | None:
        return judged(*controlled("alone", 0.3, clean=0.5), result("untrained", "original", untrained)).kept

    assert kept(0.5) is None
    assert kept(0.4) == pytest.approx((0.3 - CHANCE) / (0.5 - CHANCE))
    verdict = judged(*controlled("alone", 0.3, clean=0.5), result("untrained", "original", 0.5))
    assert "guessing gives 2.0 % and no training at all 50.0 %, so nothing follows from the 30.0 %" in verdict.sentence


def test_noise_that_protects_as_well_is_said() -> None:
    def said(noise: float) -> bool:
        verdict = judged(*controlled("alone", 0.3, noise=noise))
        return any(caveat.startswith("Random noise of the same size protects as well") for caveat in verdict.caveats)

    assert said(0.3)
    assert not said(0.31)


def test_what_an_untrained_recogniser_finds_is_said_and_no_finding() -> None:
    verdict = judged(*controlled("alone", 0.06), result("untrained", "released", 0.11))
    assert [finding.scenario for finding in verdict.findings] == ["alone"]
    assert any("11.0 %" in caveat and "not to training" in caveat for caveat in verdict.caveats)


def test_enrolment_and_strangers_pairs_are_told_apart_from_recognition() -> None:
    caveats = judged(*controlled("alone", 0.06)).caveats
    assert any("enrolled by the originals, which this competitor lacks, in 60.0 %" in caveat for caveat in caveats)
    assert any("tells 70.0 % right" in caveat for caveat in caveats)


def test_few_pairs_few_seeds_and_what_was_left_out_are_said() -> None:
    caveats = " ".join(judged(result(resolvable=False), not_tried=("mixed (too few people)",)).caveats)
    assert "too few to tell the true accept rate at a false accept rate of 0.1, 0.01" in caveats
    assert "--seeds 3" in caveats
    assert "Not tried: mixed (too few people)." in caveats
    assert "Without pairs" in " ".join(judged(result(pairs=False)).caveats)
    seeds = [result(material=kind, seed=seed) for kind in ("original", "released") for seed in range(3)]
    assert "--seeds" not in " ".join(judged(*seeds).caveats)
