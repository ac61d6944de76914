"""From trainings to a verdict: the best that any tried competitor got, never the worst."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from withhold.evaluation.countermeasures.table import find, sentence
from withhold.evaluation.results import (
    NOISE,
    ORIGINAL,
    PLAIN,
    RELEASED,
    Attempt,
    CellResult,
    Spread,
    Verdict,
)

WORKING = 0.25
"""Share of the way from guessing to perfection that a clean control must reach for its evaluation to mean anything."""

ENOUGH_SEEDS = 3

OPEN, WEAK, PARTIAL = 0.75, 0.5, 0.25
"""Shares of the training value kept, above which a release is called open, weakly, or partly protected."""


def attempts_of(results: Iterable[CellResult]) -> tuple[Attempt, ...]:
    """Gather results over their seeds; attempts keep the order of their first result."""

    def way(result: CellResult) -> tuple[str, str, str]:
        cell = result.cell
        return cell.material, cell.countermeasure, cell.network

    listed = list(results)
    order = {key: index for index, key in reversed(list(enumerate(map(way, listed))))}
    listed.sort(key=lambda result: (order[way(result)], result.cell.seed))
    return tuple(_attempt(key, list(group)) for key, group in groupby(listed, key=way))


def _attempt(key: tuple[str, str, str], results: Sequence[CellResult]) -> Attempt:
    material, countermeasure, network = key
    trained = [result for result in results if result.diverged is None]
    reached = [result for result in results if result.diverged is None or result.curve]
    return Attempt(
        material=material,
        countermeasure=countermeasure,
        network=network,
        says=sentence(find(countermeasure)),
        last=Spread.of([result.final for result in trained]) if trained else None,
        best=Spread.of([result.best for result in reached]) if reached else None,
        curve=_means([result.curve for result in reached]),
        per_class=tuple(_mean_of_class(column) for column in zip(*(r.per_class for r in trained), strict=True)),
        diverged=len(results) - len(trained),
        results=tuple(results),
    )


def _means(curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sum(column) / len(column) for column in zip(*curves, strict=False))


def _mean_of_class(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def judge(attempts: Sequence[Attempt], chance: float, not_tried: Sequence[str] = ()) -> Verdict:
    """Find the strongest competitor and say in words what it got.

    Competitors are compared at their best epoch, as if an oracle had stopped each in time: a bound on what early
    stopping could give. Those who train on clean images of their own are stated apart, beside what these give alone.

    Args:
        chance: Accuracy of guessing.
        not_tried: What was left out, and why.
    """
    inside = [a for a in attempts if a.material == RELEASED and not find(a.countermeasure).outside_data]
    clean, noise = (_strongest([a for a in attempts if a.material == kind]) for kind in (ORIGINAL, NOISE))
    strongest = _strongest(inside)
    undefended = _strongest([a for a in inside if a.countermeasure == PLAIN])
    kept = None if clean is None or strongest is None else kept_share(_best(strongest), _best(clean), chance)
    verdict = Verdict("", (), clean, noise, undefended, strongest, kept)
    words = _sentence(verdict, chance, len(inside))
    return replace(verdict, sentence=words, caveats=tuple(_caveats(attempts, verdict, chance, not_tried)))


def _best(attempt: Attempt) -> float:
    assert attempt.best is not None
    return attempt.best.mean


def _strongest(attempts: Sequence[Attempt]) -> Attempt | None:
    return max((a for a in attempts if a.best is not None), key=_best, default=None)


def kept_share(accuracy: float, clean: float, chance: float) -> float | None:
    """Return the share of the way from guessing to the clean control that is reached, in [0, 1]; None without a way.

    >>> kept_share(0.25, clean=0.5, chance=0.0)
    0.5
    """
    if clean <= chance:
        return None
    return min(1.0, max(0.0, (accuracy - chance) / (clean - chance)))


def _sentence(verdict: Verdict, chance: float, tried: int) -> str:
    strongest, clean = verdict.strongest, verdict.clean
    if not tried:
        return "No verdict: no competitor was tried that trains on the release alone."
    if strongest is None:
        return f"No verdict: none of the {counted(tried, 'competitor')} trained on the release gave a working network."
    if clean is None or verdict.kept is None or not works(clean, chance):
        control = f"only {percent(_best(clean))}" if clean else "no result"
        return (
            f"No verdict: training on the originals themselves gave {control}, guessing gives {percent(chance)}, "
            f"so nothing follows from the {percent(_best(strongest))} on the release. Train longer, or on more images."
        )
    return (
        f"{grade(verdict.kept)} The best of {counted(tried, 'competitor')} reached {percent(_best(strongest))} on "
        f"clean test images ({describe(strongest)}), where training on the originals gives {percent(_best(clean))} "
        f"and guessing {percent(chance)}: {verdict.kept:.0%} of the training value is left."
    )


def works(clean: Attempt, chance: float) -> bool:
    """Tell whether the control on the originals learnt enough for a comparison to mean something."""
    return is_working(_best(clean), chance)


def is_working(accuracy: float, chance: float) -> bool:
    """Tell whether a control with this accuracy learnt enough for a comparison to mean something."""
    return accuracy >= chance + WORKING * (1 - chance)


def grade(kept: float) -> str:
    """Say in a sentence what a share of the training value means that the strongest competitor keeps."""
    if kept > OPEN:
        return "This release does not withhold its training value."
    if kept > WEAK:
        return "This release withholds less than half of its training value."
    if kept > PARTIAL:
        return "This release withholds part of its training value."
    return "This release withheld most of its training value from every tried competitor that trained on it alone."


def describe(attempt: Attempt) -> str:
    """Name an attempt in words."""
    how = "no countermeasure" if attempt.countermeasure == PLAIN else attempt.countermeasure
    return f"{how}, {attempt.network}, at its best epoch"


def _caveats(attempts: Sequence[Attempt], verdict: Verdict, chance: float, not_tried: Sequence[str]) -> Iterable[str]:
    undefended, strongest = verdict.undefended, verdict.strongest
    if undefended is not None and strongest is not None:
        plain = f"Without a countermeasure a competitor {_end(undefended)}"
        better = f"; the strongest, {strongest.countermeasure}, {_end(strongest)}"
        yield f"{plain}{'' if strongest is undefended else better}."
    if verdict.clean is not None and strongest is not None and works(verdict.clean, chance):
        yield from _against_controls(verdict.clean, verdict.noise, strongest)
    tried = {attempt.countermeasure for attempt in attempts if attempt.material == RELEASED}
    if tried == {PLAIN}:
        yield "No countermeasure was tried; most protection yields to some. --suite standard or full tries them."
    yield from _own_images(attempts)
    yield from _shares(attempts)
    seeds = max((len(attempt.results) for attempt in attempts), default=0)
    if seeds < ENOUGH_SEEDS:
        yield f"Each figure comes from {counted(seeds, 'training')}; --seeds {ENOUGH_SEEDS} shows how far they vary."
    diverged = sum(attempt.diverged for attempt in attempts)
    if diverged:
        yield f"{counted(diverged, 'training')} diverged, which is no protection: what it reached before counts."
    if verdict.clean is None:
        yield "There is no control on the originals."
    if not_tried:
        yield f"Not tried: {'; '.join(not_tried)}."
    yield (
        "Only what was tried is measured: a competitor may know better ways, and pairs of originals and released "
        "images undo the protection."
    )


def _against_controls(clean: Attempt, noise: Attempt | None, strongest: Attempt) -> Iterable[str]:
    if _best(strongest) > _best(clean):
        yield "The strongest competitor did better than plain training on the originals: the release protects nothing."
    if noise is not None and _best(noise) <= _best(strongest):
        left = percent(_best(noise))
        yield f"Random noise of the same size protects as well as this release: it leaves {left}."


def _end(attempt: Attempt) -> str:
    return "diverges in the end" if attempt.last is None else f"ends at {percent(attempt.last.mean)}"


def _own_images(attempts: Sequence[Attempt]) -> Iterable[str]:
    """State what clean images of the competitor's own add, beside what they give alone."""
    outside = [a for a in attempts if a.best is not None and find(a.countermeasure).outside_data]
    for mixed in outside:
        count = find(mixed.countermeasure).clean_images
        alone = [
            a
            for a in outside
            if a is not mixed and find(a.countermeasure).clean_images == count and a.network == mixed.network
        ]
        if mixed.countermeasure.startswith("dilution"):
            control = f"those images alone give {percent(_best(alone[0]))}" if alone else "those alone were not tried"
            yield (
                f"With {count} clean images of their own a competitor ({mixed.network}) gets {percent(_best(mixed))}; "
                f"{control}."
            )


def _shares(attempts: Sequence[Attempt]) -> Iterable[str]:
    for attempt in attempts:
        kind, _, share = attempt.material.partition("-")
        if kind == RELEASED and share and attempt.best is not None:
            rest = [a for a in attempts if a.material == f"rest-{share}" and a.network == attempt.network]
            alone = f"; the unprotected rest alone gives {percent(_best(rest[0]))}" if rest and rest[0].best else ""
            yield f"With only {share} % of the set protected, a competitor gets {percent(_best(attempt))}{alone}."


def percent(share: float) -> str:
    """Write a share as percent with its sign.

    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * share:.1f} %"


def counted(number: int, what: str) -> str:
    """Write a number of things.

    >>> counted(1, "training"), counted(3, "training")
    ('1 training', '3 trainings')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
