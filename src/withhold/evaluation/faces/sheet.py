"""The sheet: people's pictures as they were, beside each release and what it changed, magnified."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from withhold.data.drawing import difference, shown
from withhold.data.pixels import Picture, change
from withhold.evaluation.faces.results import Person, Version
from withhold.evaluation.matching import Chosen, Part
from withhold.evaluation.quality import MAGNIFIED, png
from withhold.seeds import derive_seed


def draw_sheet(chosen: Chosen, also: Sequence[Part], *, count: int, seed: int) -> tuple[Person, ...]:
    """Draw one picture of each of some people, drawn at random.

    Args:
        also: Other releases of the same originals, in their order.
        count: Of people, as far as there are so many.

    Raises:
        InvalidInput: A picture cannot be read, or has another size in a release.
    """
    rows = _rows(chosen.original.labels, count, seed)
    releases = (chosen.released, *also)
    read = [list(part.pictures(rows)) for part in (chosen.original, *releases)]
    people = []
    for entry, label, before, *afters in zip(
        chosen.original.entries.take(rows), chosen.original.labels[rows], *read, strict=True
    ):
        versions = tuple(
            _version(part.dataset.root.name, before, after) for part, after in zip(releases, afters, strict=True)
        )
        picture = png(shown(before), Image.Resampling.LANCZOS)
        people.append(Person(chosen.classes[label], entry.name, picture, versions, MAGNIFIED))
    return tuple(people)


def _rows(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw people, and one picture of each, in the order of their numbers."""
    draw = np.random.default_rng(derive_seed(seed, "sheet"))
    people = np.sort(draw.permutation(np.unique(labels))[:count])
    return np.array([draw.choice(np.flatnonzero(labels == person)) for person in people], np.int64)


def _version(release: str, before: Picture, after: Picture) -> Version:
    # Differences are reduced by picking pixels: averages would make them vanish.
    return Version(
        release=release,
        largest=float(change(before, after).max()),
        picture=png(shown(after), Image.Resampling.LANCZOS),
        difference=png(difference(before, after, MAGNIFIED), Image.Resampling.NEAREST),
    )
