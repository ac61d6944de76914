"""Who plays whom in a scenario: the owner's people, other people, and pictures that were published before."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.data import FEWEST_PEOPLE, FaceSets
from withhold.seeds import derive_seed


@dataclass(frozen=True, slots=True, eq=False)
class Roles:
    """Who plays whom in a scenario.

    Attributes:
        people: The owner's people, by their number in the sets. In what follows they are numbered anew, from 0.
        apart: Those of the dataset's people who play the others; empty where nobody does.
        with_others: Other people are there: those apart, or those who were given.
    """

    sets: FaceSets
    people: tuple[int, ...]
    apart: tuple[int, ...] = ()
    with_others: bool = False

    @property
    def drawn(self) -> bool:
        """Tell whether the other people are some of the dataset's own."""
        return bool(self.apart)

    @property
    def others(self) -> Labelled:
        """Return clean pictures of the other people, numbered from 0; none where a scenario has none."""
        if self.drawn:
            return of_people(self.sets.original, self.apart)
        return self.sets.others if self.with_others else self.sets.others.take(torch.arange(0))

    @property
    def others_released(self) -> Labelled:
        """Return the released versions of the same pictures, in the same order; only people apart have any."""
        return of_people(self.sets.released, self.apart)

    def count_others(self) -> int:
        """Count the clean pictures of the other people."""
        if self.drawn:
            return int(torch.isin(self.sets.original.labels, torch.tensor(self.apart)).sum())
        return len(self.sets.others) if self.with_others else 0

    def published(self, material: str) -> Labelled:
        """Return the owner's published pictures."""
        return of_people(self.sets.published(material), self.people)

    @property
    def test(self) -> Labelled:
        """Return the clean test pictures of the owner's people."""
        return of_people(self.sets.test, self.people)


def of_people(pictures: Labelled, people: Sequence[int]) -> Labelled:
    """Take the pictures of some people and number these from 0, in the order given."""
    number = torch.full((int(pictures.labels.max()) + 1,), -1)
    number[torch.tensor(people, dtype=torch.int64)] = torch.arange(len(people))
    labels = number[pictures.labels]
    return Labelled(pictures.images[labels >= 0], labels[labels >= 0])


def halves(identities: int, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide people at random: the owner's, then those who play the others; the first half is the larger one.

    >>> sorted(map(len, halves(7, seed=0)))
    [3, 4]
    """
    order = np.random.default_rng(derive_seed(seed, "other people")).permutation(identities).tolist()
    middle = -(-identities // 2)
    return tuple(sorted(order[:middle])), tuple(sorted(order[middle:]))


def cast(sets: FaceSets, *, others: bool, released: bool = False) -> Roles:
    """Say who plays whom.

    Other people are those who were given, or else half of the dataset's own, of whom then only the other half is
    published and looked up.

    Args:
        others: Other people are needed.
        released: Their released versions too; then they are always some of the dataset's own.

    Raises:
        InvalidInput: The dataset has too few people to divide.
    """
    everyone = tuple(range(len(sets.identities)))
    if not (others or released):
        return Roles(sets, everyone)
    if len(sets.others) and not released:
        return Roles(sets, everyone, with_others=True)
    if len(everyone) < 2 * FEWEST_PEOPLE:
        msg = (
            f"half of the people stand for others, and {len(everyone)} are too few to divide: "
            f"{2 * FEWEST_PEOPLE} are needed, or pictures of other people (--others)"
        )
        raise InvalidInput(msg)
    return Roles(sets, *halves(len(everyone), sets.seed), with_others=True)


def drawn_share(labels: Tensor, percent: int, seed: int) -> Tensor:
    """Draw a share of each person's pictures, at least one and not all.

    Returns:
        (n,) bool, true for the drawn ones.
    """
    order = np.random.default_rng(derive_seed(seed, "old releases")).permutation(len(labels))
    numbers = labels.numpy()[order]
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for person in np.unique(numbers):
        rows = order[numbers == person]
        drawn[rows[: min(len(rows) - 1, max(1, round(percent / 100 * len(rows))))]] = True
    return drawn
