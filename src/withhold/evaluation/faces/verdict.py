"""From recognisers to a verdict: what the release withholds, what it does not, and against which controls."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from withhold.evaluation.faces.results import (
    ALONE,
    OLD_ALONE,
    OLD_RELEASES,
    STRANGER,
    UNTRAINED,
    FaceAttempt,
    FaceVerdict,
    Finding,
)
from withhold.evaluation.faces.scenarios.table import find, sentence
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED
from withhold.evaluation.verdict import ENOUGH_SEEDS, PARTIAL, counted, grade, is_working, kept_share, percent

CONTROL_OF = {UNTRAINED: ALONE, OLD_ALONE: OLD_RELEASES}
"""Scenarios that only show what others are to be read beside."""

WORTH = 0.05
"""What all clean pictures must recognise beyond the older ones alone, for the others' protection to mean something."""


def judge(attempts: Sequence[FaceAttempt], not_tried: Sequence[str] = ()) -> FaceVerdict:
    """Say what each scenario showed.

    Each is taken at the head that recognises most, by templates in the end or by the trained head at its best epoch, as
    if an oracle had stopped the training in time; its controls likewise.

    Args:
        not_tried: What was left out, and why.
    """
    tried = list(dict.fromkeys(attempt.scenario for attempt in attempts))
    shown = sorted((name for name in tried if name not in CONTROL_OF), key=lambda name: name != ALONE)
    compared = [_compare(name, attempts) for name in shown]
    findings = [_finding(each) for each in compared]
    alone = next((each for each in compared if each.scenario == ALONE), None)
    return FaceVerdict(
        sentence=_headline(alone),
        findings=tuple(findings),
        caveats=tuple(_caveats(attempts, findings, not_tried)),
        kept=alone.kept if alone else None,
    )


@dataclass(frozen=True, slots=True)
class _Compared:
    """The best attempts of a scenario on each material, and what it is measured against.

    Attributes:
        untrained: Rate of a recogniser that was never trained, with the originals enrolled; None if not measured.
        floor: Rate of one who learns nothing from what is published: guessing, or older pictures alone; None if not
            measured.
        floor_says: The same in words.
    """

    scenario: str
    released: FaceAttempt | None
    clean: FaceAttempt | None
    noise: FaceAttempt | None
    chance: float
    people: int
    untrained: float | None
    floor: float | None
    floor_says: str

    @property
    def working(self) -> bool:
        """Tell whether the originals taught something, beyond what likeness alone gives."""
        if self.clean is None or not is_working(best(self.clean), self.chance):
            return False
        return self.untrained is None or best(self.clean) >= self.untrained + WORTH

    @property
    def nothing_learnt(self) -> str:
        """Say what the rates are of those who learnt nothing."""
        untrained = "" if self.untrained is None else f" and no training at all {percent(self.untrained)}"
        return f"guessing gives {percent(self.chance)}{untrained}"

    @property
    def kept(self) -> float | None:
        if self.released is None or self.clean is None or self.floor is None or not self.working:
            return None
        if self.scenario == OLD_RELEASES and best(self.clean) < self.floor + WORTH:
            return None
        return kept_share(best(self.released), best(self.clean), self.floor)


def best(attempt: FaceAttempt) -> float:
    """Return the most that an attempt recognises, in the mean over its seeds."""
    assert attempt.best is not None
    return attempt.best.mean


def strongest(attempts: Iterable[FaceAttempt], scenario: str, material: str) -> FaceAttempt | None:
    """Return the attempt that recognises most; None if every one diverged or none was made."""
    fitting = (a for a in attempts if (a.scenario, a.material) == (scenario, material) and a.best is not None)
    return max(fitting, key=best, default=None)


def _finding(compared: _Compared) -> Finding:
    kept = compared.kept
    return Finding(
        scenario=compared.scenario,
        says=sentence(compared.scenario),
        sentence=_words(compared),
        holds=_holds(compared.scenario, kept),
        released=compared.released,
        clean=compared.clean,
        noise=compared.noise,
        kept=kept,
    )


def _holds(scenario: str, kept: float | None) -> bool | None:
    if kept is None or (scenario == STRANGER and kept <= PARTIAL):
        return None  # that a stranger was disturbed here is no promise
    return kept <= PARTIAL


def _compare(scenario: str, attempts: Sequence[FaceAttempt]) -> _Compared:
    released, clean, noise = (strongest(attempts, scenario, kind) for kind in (RELEASED, ORIGINAL, NOISE))
    people = next(a.identities for a in attempts if a.scenario == scenario)
    never = strongest(attempts, UNTRAINED, ORIGINAL) if scenario == ALONE else None  # the same people are looked up
    floor: float | None
    floor, says = 1 / people, f"guessing {percent(1 / people)}"
    if scenario == OLD_RELEASES:
        older = strongest(attempts, OLD_ALONE, ORIGINAL)
        floor = best(older) if older else None
        says = f"the older pictures alone {percent(best(older))}" if older else says
    return _Compared(scenario, released, clean, noise, 1 / people, people, best(never) if never else None, floor, says)


def _words(compared: _Compared) -> str:
    scenario, released, clean = compared.scenario, compared.released, compared.clean
    subject = find(scenario).subject
    if released is None:
        return f"{subject}: every training diverged, which is no protection; nothing follows."
    if clean is None or not compared.working:
        control = f"only {percent(best(clean))}" if clean else "no result"
        return (
            f"{subject} recognises {percent(best(released))} of clean pictures, but the originals in the same place "
            f"give {control} where {compared.nothing_learnt}: nothing follows."
        )
    noise = f", random noise of the same size {percent(best(compared.noise))}" if compared.noise else ""
    rates = (
        f"{subject} recognises {percent(best(released))} of clean pictures among {compared.people} people, where the "
        f"originals give {percent(best(clean))}{noise} and {compared.floor_says}"
    )
    if compared.floor is None:
        return f"{rates}: what the older pictures give alone (scenario {OLD_ALONE}) is not known, so nothing follows."
    if compared.kept is None:
        return f"{rates}: the older ones suffice already, so there is little left to withhold."
    if scenario == STRANGER:
        return f"{rates}. {_no_cloak(compared.kept)}"
    return f"{rates}: {compared.kept:.0%} is left, so the protection {_held(compared.kept)}."


def _held(kept: float) -> str:
    return "holds here" if kept <= PARTIAL else "does not hold here" if kept > 1 - PARTIAL else "holds in part only"


def _no_cloak(kept: float) -> str:
    if kept > PARTIAL:
        return (
            "It learnt nothing from the release, so nothing that spoils learning can stop it: people on released "
            "pictures can still be recognised. Withholding the training value is no cloak."
        )
    return (
        "These changes also disturb this recogniser, which no method of this kind promises: another one may recognise "
        "the people on released pictures all the same."
    )


def _headline(alone: _Compared | None) -> str:
    if alone is None:
        return "No verdict: training on the release alone was not tried (scenario alone)."
    released, clean = alone.released, alone.clean
    if released is None:
        return "No verdict: every training on the release alone diverged, which is no protection."
    if clean is None or alone.kept is None:
        control = f"only {percent(best(clean))}" if clean else "no result"
        return (
            f"No verdict: training on the originals themselves gave {control} where {alone.nothing_learnt}, so nothing "
            f"follows from the {percent(best(released))} on the release. Train longer, or on more pictures."
        )
    probes = next((result.identification.probes for result in released.results if result.identification), 0)
    return (
        f"{grade(alone.kept)} The best recogniser trained on it alone ({released.head}, {released.network}) "
        f"recognises at most {percent(best(released))} of {probes} clean pictures among {released.identities} people, "
        f"where training on the originals gives {percent(best(clean))} and guessing {percent(alone.chance)}: "
        f"{alone.kept:.0%} of the training value is left."
    )


def _caveats(attempts: Sequence[FaceAttempt], findings: Sequence[Finding], not_tried: Sequence[str]) -> Iterable[str]:
    failed = [finding.scenario for finding in findings if finding.holds is False]
    if failed:
        yield f"It does not hold, or only in part, in {', '.join(failed)}; see the sentence of each."
    matched = [finding.scenario for finding in findings if _noise_does_as_well(finding)]
    if matched:
        yield f"Random noise of the same size protects as well as this release in {', '.join(matched)}."
    for finding in findings:
        if finding.scenario == ALONE:
            yield from _what_training_did(finding, attempts)
    yield from _pairs(attempts)
    yield from _trainings(attempts)
    if not_tried:
        yield f"Not tried: {'; '.join(not_tried)}."
    yield (
        "Only what was tried is measured: a competitor may know better ways, and pairs of originals and released "
        "pictures undo the protection."
    )


def _noise_does_as_well(finding: Finding) -> bool:
    released, noise = finding.released, finding.noise
    # Nobody claims that a stranger is stopped, so that noise does as well there says nothing against the release.
    if finding.kept is None or released is None or noise is None or finding.scenario == STRANGER:
        return False
    return best(noise) <= best(released)


def _what_training_did(alone: Finding, attempts: Sequence[FaceAttempt]) -> Iterable[str]:
    untrained = strongest(attempts, UNTRAINED, RELEASED)
    if untrained is not None:
        yield (
            f"With released pictures enrolled, even {_lower(find(UNTRAINED).subject)} recognises "
            f"{percent(best(untrained))}: so much is owed to the pictures' likeness, not to training."
        )
    released, clean = alone.released, alone.clean
    if released is None or clean is None:
        return
    if released.clean_rank1 is not None and released.rank1 is not None:
        yield (
            f"Trained on the release alone and enrolled by it, people are found at rank 1 in "
            f"{percent(released.rank1.mean)}; enrolled by the originals, which this competitor lacks, in "
            f"{percent(released.clean_rank1.mean)}."
        )
    if released.accuracy is not None and clean.accuracy is not None:
        yield (
            f"Of pairs of people whom nobody trained on, a recogniser trained on the release tells "
            f"{percent(released.accuracy.mean)} right, one trained on the originals {percent(clean.accuracy.mean)}; "
            "guessing gives 50.0 %."
        )


def _lower(subject: str) -> str:
    return subject[0].lower() + subject[1:]


def _pairs(attempts: Sequence[FaceAttempt]) -> Iterable[str]:
    checked = [result.verification for a in attempts for result in a.results if result.verification]
    if not checked:
        yield "Without pairs (--pairs) neither verification nor distractors were measured."
        return
    few = [f"{each.far:g}" for each in checked[0].accepts if not each.resolvable]
    if few:
        yield f"The pairs are too few to tell the true accept rate at a false accept rate of {', '.join(few)}."


def _trainings(attempts: Sequence[FaceAttempt]) -> Iterable[str]:
    seeds = max((len(attempt.results) for attempt in attempts), default=0)
    if seeds < ENOUGH_SEEDS:
        yield f"Each figure comes from {counted(seeds, 'training')}; --seeds {ENOUGH_SEEDS} shows how far they vary."
    diverged = sum(attempt.diverged for attempt in attempts)
    if diverged:
        yield f"{counted(diverged, 'training')} diverged, which is no protection: what it reached before counts."
