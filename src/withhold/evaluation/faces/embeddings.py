"""Embeddings of faces: their cosines, and the templates by which a gallery knows people.

Only the direction of an embedding counts. Computed in float64, whatever precision the embeddings have.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from withhold.errors import InvalidInput

Vectors = npt.NDArray[np.floating]
Unit = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Templates = Literal["mean", "pictures"]
"""What a gallery holds of an identity: the mean of its unit embeddings, of unit length again, or every picture."""

DECIMALS = 12
"""Cosines that differ by less than 1e-12 differ by rounding only, and count as equal."""

BLOCK = 2048
"""Most rows and columns of similarities that are held at once: 32 MiB of float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Embeddings of pictures of known people.

    Attributes:
        embeddings: (n, d), finite, of any length but 0.
        identities: (n,) integer, one for each person.
    """

    embeddings: Vectors
    identities: Integers

    def __post_init__(self) -> None:
        check_embeddings(self.embeddings, "faces")
        if self.identities.shape != self.embeddings.shape[:1]:
            msg = f"expected an identity for each of {len(self)} embeddings, got {self.identities.shape}"
            raise InvalidInput(msg)

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.embeddings)


def cosine_scores(first: Vectors, second: Vectors) -> Unit:
    """Compare embeddings row by row by their cosine.

    Args:
        first: (n, d), finite, of any length but 0.
        second: (n, d), likewise.

    Returns:
        (n,) in [-1, 1], rounded to `DECIMALS`.

    Raises:
        InvalidInput: The shapes differ, or an embedding is zero or not finite.
    """
    if first.shape != second.shape:
        msg = f"expected embeddings of one shape (n, d) for both sides of pairs, got {first.shape} and {second.shape}"
        raise InvalidInput(msg)
    for side in (first, second):
        check_embeddings(side, "pairs")
    cosines: Unit = np.einsum("nd,nd->n", unit_length(first), unit_length(second)).round(DECIMALS).clip(-1.0, 1.0)
    return cosines


def check_embeddings(embeddings: Vectors, what: str) -> None:
    """Refuse embeddings that have no direction.

    Args:
        embeddings: (n, d), n at least 1.
        what: Their name in messages.

    Raises:
        InvalidInput: Another shape, or an embedding that is zero or not finite.
    """
    if embeddings.ndim != 2 or 0 in embeddings.shape:  # noqa: PLR2004 - a matrix
        msg = f"expected embeddings (n, d) of the {what}, at least one, got {embeddings.shape}"
        raise InvalidInput(msg)
    wrong = 0
    for block in blocks(len(embeddings), BLOCK):
        with np.errstate(over="ignore"):
            lengths = np.linalg.norm(embeddings[block].astype(np.float64), axis=1)
        wrong += int(np.count_nonzero(~(np.isfinite(lengths) & (lengths > 0))))
    if wrong:
        msg = f"{wrong} of {len(embeddings)} embeddings of the {what} are zero or not finite; check the recogniser"
        raise InvalidInput(msg)


def enrol(gallery: Faces, templates: Templates) -> tuple[Integers, Unit, Integers]:
    """Make the templates of a gallery.

    Returns:
        The i identities, sorted; their templates (t, d) in that order, of unit length; and (i,) where each identity's
        templates begin.
    """
    order = np.argsort(gallery.identities, kind="stable")
    names, starts = np.unique(gallery.identities[order], return_index=True)
    pictures = unit_length(gallery.embeddings[order])
    if templates == "pictures":
        return names, pictures, starts
    sums = np.add.reduceat(pictures, starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # Embeddings that cancel each other out have no mean direction; zero is similar to nobody.
    lost = lengths < 10.0**-DECIMALS
    means = np.where(lost, 0.0, sums / np.where(lost, 1.0, lengths))
    return names, means, np.arange(len(names))


def unit_length(embeddings: Vectors) -> Unit:
    """Scale embeddings (n, d) to unit length."""
    exact = embeddings.astype(np.float64)
    scaled: Unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return scaled


def blocks(count: int, size: int) -> Iterator[slice]:
    """Divide `count` rows into runs of at most `size`."""
    return (slice(start, start + size) for start in range(0, count, size))
