"""Identification: whose picture is this? Closed-set rank-k rates, and rank-1 against a growing crowd of strangers.

Similarity is the cosine of embeddings. Ties count against the recogniser: of candidates that are equally similar, the
right one comes last. One that gives every picture the same embedding thus recognises nobody, where guessing would give
it one in so many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from withhold.errors import InvalidInput
from withhold.evaluation.faces.embeddings import (
    BLOCK,
    DECIMALS,
    Faces,
    Integers,
    Templates,
    Unit,
    Vectors,
    blocks,
    check_embeddings,
    enrol,
    unit_length,
)
from withhold.evaluation.results import Spread
from withhold.seeds import derive_seed

LONGEST = 50
"""Ranks of a CMC curve that are kept."""

CROWDS = (10, 100, 500, 1000, 10_000, 100_000)
"""Numbers of distractors, as far as there are so many."""

DRAWS = 5

_TIE = 10.0**-DECIMALS


@dataclass(frozen=True, slots=True)
class Identification:
    """Closed-set identification: every probe shows someone in the gallery.

    Attributes:
        rank1: Share of the probes whose own identity is the most similar, in [0, 1].
        rank5: Share of those whose own identity is among the five most similar; 1 with five identities or fewer.
        cmc: Cumulative match characteristic: shares at ranks 1, 2, ..., at most `LONGEST` of them.
        templates: `mean` or `pictures`; with the latter an identity is as similar as its most similar picture.
        identities: In the gallery.
        gallery: Pictures in the gallery.
        probes: Pictures looked up.
    """

    rank1: float
    rank5: float
    cmc: tuple[float, ...]
    templates: Templates
    identities: int
    gallery: int
    probes: int

    @property
    def chance(self) -> float:
        """Return the rank-1 rate of guessing, which the convention about ties may fall below."""
        return 1 / self.identities


@dataclass(frozen=True, slots=True)
class CrowdPoint:
    """Rank-1 among some number of strangers.

    Attributes:
        distractors: Strangers' pictures in the gallery.
        rates: Rank-1 rate in [0, 1] of each draw. A draw's subsets are nested, so its rates never rise with the crowd.
        rank1: Mean and deviation over the draws; the deviation is of the drawn strangers only, 0 once all take part.
    """

    distractors: int
    rates: tuple[float, ...]
    rank1: Spread


@dataclass(frozen=True, slots=True)
class Crowd:
    """Rank-1 against a growing crowd.

    Attributes:
        points: In rising order of distractors; the last has all of them.
        templates: `mean` for one mate for each probe; `pictures` for every picture of its identity in turn, as in
            MegaFace.
        identities: In the gallery.
        gallery: Pictures in the gallery.
        probes: Pictures looked up.
        trials: Pairs of probe and mate; rates are shares of these.
        distractors: Pictures of strangers that there are.
    """

    points: tuple[CrowdPoint, ...]
    templates: Templates
    identities: int
    gallery: int
    probes: int
    trials: int
    distractors: int


def measure_identification(gallery: Faces, probes: Faces, *, templates: Templates = "mean") -> Identification:
    """Look up every probe in the gallery.

    A probe's rank is one more than the number of other identities that are at least as similar as its own.

    Raises:
        InvalidInput: A probe shows nobody in the gallery, or the embeddings differ in dimension.
    """
    own = _own_identity(gallery, probes)
    names, enrolled, starts = enrol(gallery, templates)
    queries = unit_length(probes.embeddings)
    ranks = np.empty(len(probes), np.int64)
    rows = max(1, BLOCK * BLOCK // len(enrolled))
    for block in blocks(len(probes), rows):
        similar = np.maximum.reduceat(queries[block] @ enrolled.T, starts, axis=1)
        mate = np.take_along_axis(similar, own[block, None], axis=1)
        ranks[block] = np.count_nonzero(similar >= mate - _TIE, axis=1)  # its own identity among them
    reached = np.bincount(ranks, minlength=len(names) + 1).cumsum()[1:] / len(probes)
    return Identification(
        rank1=float(reached[0]),
        rank5=float(reached[min(5, len(names)) - 1]),
        cmc=tuple(reached[:LONGEST].tolist()),
        templates=templates,
        identities=len(names),
        gallery=len(gallery),
        probes=len(probes),
    )


def measure_crowd(
    gallery: Faces,
    probes: Faces,
    distractors: Vectors,
    *,
    sizes: Sequence[int] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    templates: Templates = "mean",
) -> Crowd:
    """Look up every probe in a gallery that holds its mate and strangers.

    MegaFace's protocol (Kemelmacher-Shlizerman et al., arXiv 1512.00596): for each probe the gallery is one
    mate, a picture of the same person, and N distractors; the other people of the gallery are not in it. A probe is
    recognised if its mate is more similar than every distractor. For each draw the distractors are put in a random
    order, and the first N of them are taken. Memory does not grow with the product of probes and distractors.

    Args:
        distractors: (m, d) embeddings of people who are not in the gallery.
        sizes: Numbers of distractors; the default is `CROWDS`, as far as there are so many. All are always added.
        draws: Random orders, at least 1.

    Raises:
        InvalidInput: As for `measure_identification`; a size is not in 1..m; fewer than one draw.
    """
    check_embeddings(distractors, "distractors")
    if draws < 1 or distractors.shape[1] != gallery.embeddings.shape[1]:
        msg = (
            f"expected at least 1 draw and distractors (m, {gallery.embeddings.shape[1]}), got {draws} and "
            f"{distractors.shape}"
        )
        raise InvalidInput(msg)
    chosen = crowd_sizes(len(distractors), sizes)
    rows, mates = _trials(gallery, probes, templates)
    lost = _first_lost(unit_length(probes.embeddings), rows, mates, distractors, _orders(len(distractors), draws, seed))
    points = []
    for size in chosen:
        rates = tuple((lost >= size).mean(axis=1).tolist())
        points.append(CrowdPoint(size, rates, Spread.of(rates)))
    people = len(np.unique(gallery.identities))
    return Crowd(tuple(points), templates, people, len(gallery), len(probes), len(rows), len(distractors))


def crowd_sizes(available: int, sizes: Sequence[int] | None = None) -> tuple[int, ...]:
    """Choose how many distractors take part: the given numbers, or `CROWDS` as far as possible, and all.

    >>> crowd_sizes(728), crowd_sizes(728, [50])
    ((10, 100, 500, 728), (50, 728))

    Raises:
        InvalidInput: A given number is not in 1..available.
    """
    if wrong := [size for size in sizes or () if not 1 <= size <= available]:
        msg = f"expected numbers of distractors from 1 to {available}, as many as there are, got {wrong[0]}"
        raise InvalidInput(msg)
    wanted = [size for size in CROWDS if size <= available] if sizes is None else sizes
    return tuple(sorted({*wanted, available}))


def _own_identity(gallery: Faces, probes: Faces) -> Integers:
    """Return each probe's identity, as a position among the gallery's sorted ones."""
    if gallery.embeddings.shape[1] != probes.embeddings.shape[1]:
        shapes = f"{gallery.embeddings.shape} and {probes.embeddings.shape}"
        msg = f"expected gallery and probes from one recogniser, with embeddings of one dimension, got {shapes}"
        raise InvalidInput(msg)
    names = np.unique(gallery.identities)
    strangers = np.setdiff1d(probes.identities, names)
    if len(strangers):
        msg = (
            f"{len(strangers)} people among the probes are not in the gallery, such as identity {strangers[0]}; "
            "identification is closed-set, so enrol them, or leave their probes out"
        )
        raise InvalidInput(msg)
    return np.searchsorted(names, probes.identities)


def _trials(gallery: Faces, probes: Faces, templates: Templates) -> tuple[Integers, Unit]:
    """Pair each probe with the templates of its identity: the probes' rows (t,), in order, and the mates' cosines."""
    own = _own_identity(gallery, probes)
    _, enrolled, starts = enrol(gallery, templates)
    counts = np.diff(np.append(starts, len(enrolled)))[own]
    rows = np.repeat(np.arange(len(probes)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    mates = starts[own[rows]] + within
    queries = unit_length(probes.embeddings)
    cosines = np.empty(len(rows))
    for block in blocks(len(rows), BLOCK):
        cosines[block] = np.einsum("td,td->t", queries[rows[block]], enrolled[mates[block]])
    return rows, cosines


def _orders(count: int, draws: int, seed: int) -> npt.NDArray[np.int32]:
    """Give each distractor its place in each draw's random order, (draws, count)."""
    generators = (np.random.default_rng(derive_seed(seed, "distractors", draw)) for draw in range(draws))
    return np.stack([generator.permutation(count) for generator in generators]).astype(np.int32)


def _first_lost(
    queries: Unit, rows: Integers, mates: Unit, distractors: Vectors, places: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Find the first distractor, in each draw's order, that is at least as similar to a probe as its mate.

    Returns:
        (draws, trials) its place, counted from 0; the number of distractors if there is none. A trial is won against N
        distractors if this is at least N.
    """
    lost = np.full((len(places), len(rows)), len(distractors), np.int32)
    for strangers in blocks(len(distractors), BLOCK):
        crowd = unit_length(distractors[strangers])
        for block in blocks(len(rows), BLOCK):
            asked, back = np.unique(rows[block], return_inverse=True)
            beaten = (queries[asked] @ crowd.T)[back] >= mates[block, None] - _TIE
            for order, first in zip(places[:, strangers], lost, strict=True):
                found = np.where(beaten, order, np.int32(len(distractors))).min(axis=1)
                np.minimum(first[block], found, out=first[block])
    return lost
