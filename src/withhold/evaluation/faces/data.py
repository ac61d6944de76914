"""The pictures of an evaluation of faces in memory: each set read once, and no measured picture trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from withhold.data.arrays import centre_crop, colour
from withhold.data.entries import Entries, list_entries
from withhold.data.open import open_dataset
from withhold.data.pixels import UnreadableImage, decode
from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.pairs import Pairs, pixel_digests, seen_images
from withhold.evaluation.images import Read, check_memory, digest, read_part, read_sets, refuse_overlap
from withhold.evaluation.matching import Chosen, Part
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED

FEWEST_PICTURES = 2
"""Of each person, so that a recogniser can learn what stays the same between them."""

FEWEST_PEOPLE = 2


@dataclass(frozen=True, slots=True, eq=False)
class PairImages:
    """Pictures of people outside the dataset, with the pairs among them.

    Attributes:
        images: (m, 3, side, side), uint8, in the order of `pairs.images`.
    """

    pairs: Pairs
    images: UInt8[Tensor, "m 3 s s"]


@dataclass(frozen=True, slots=True, eq=False)
class FaceSets:
    """All pictures of an evaluation in memory, as recognisers get them.

    Attributes:
        identities: Names of the owner's people.
        noise: The originals under random noise of the bound's size.
        others: Clean pictures of other people, numbered from 0; empty if the owner's people play them.
        pairs: None without pairs.
        side: Of every picture.
        digests: SHA-256 of each set's pixels and labels.
        seed: Of the draw of those of the owner's people who play the others.
    """

    identities: tuple[str, ...]
    original: Labelled
    noise: Labelled
    released: Labelled
    test: Labelled
    others: Labelled
    pairs: PairImages | None
    side: int
    digests: dict[str, str]
    seed: int

    def published(self, material: str) -> Labelled:
        """Return what a material means."""
        return {ORIGINAL: self.original, NOISE: self.noise, RELEASED: self.released}[material]


def open_others(place: Path, identities: Sequence[str]) -> Part:
    """Open pictures of other people.

    Raises:
        InvalidInput: Some of them have names of the owner's people, or they are fewer than two.
    """
    dataset = open_dataset(place)
    known = sorted(set(dataset.classes) & set(identities))
    if known:
        msg = f"{place} must hold people who are not in the originals; {len(known)} are in both, such as {known[0]}"
        raise InvalidInput(msg)
    entries = Entries(list_entries(dataset))
    part = Part(dataset, entries, np.array([entry.label for entry in entries], np.int64))
    _check_counts(part.labels, dataset.classes, f"{place}")
    if len(dataset.classes) < FEWEST_PEOPLE:
        msg = f"{place} holds {len(dataset.classes)} people; at least {FEWEST_PEOPLE} are needed to learn from"
        raise InvalidInput(msg)
    return part


def check_people(chosen: Chosen) -> None:
    """Refuse people that nothing can be learnt or measured about.

    Raises:
        InvalidInput: Someone has a single picture, or no test picture.
    """
    _check_counts(chosen.original.labels, chosen.classes, "the originals")
    tested = np.bincount(chosen.test.labels, minlength=len(chosen.classes))
    untested = [name for name, count in zip(chosen.classes, tested, strict=True) if count == 0]
    if untested:
        msg = (
            f"{len(untested)} people have no test picture, such as {untested[0]}; nobody can be looked up without: add "
            "a clean picture of each to the test set, or leave them out of originals and release"
        )
        raise InvalidInput(msg)


def _check_counts(labels: np.ndarray, names: Sequence[str], what: str) -> None:
    counts = np.bincount(labels, minlength=len(names))
    single = [name for name, count in zip(names, counts, strict=True) if count < FEWEST_PICTURES]
    if single:
        msg = (
            f"{len(single)} people of {what} have fewer than {FEWEST_PICTURES} pictures, such as {single[0]}; a "
            "recogniser learns from what differs between pictures of one person: add pictures, or leave them out"
        )
        raise InvalidInput(msg)


def load_faces(
    chosen: Chosen, others: Part | None, pairs: Pairs | None, *, side: int, size: int, bound: int, seed: int
) -> FaceSets:
    """Read all pictures.

    Args:
        side: Of the recognisers' input, to which pictures are resized.
        size: Side of the squares that all pictures are expected to be.
        bound: Levels of the random noise of the control.

    Raises:
        InvalidInput: A picture has another size or cannot be read, or a picture that is measured is also trained on.
    """
    sets, read = read_sets(chosen, side, "native", bound, seed)
    of_others = read_others(others, read, side)
    known = {**read, **({"others": of_others} if of_others else {})}
    for part in known.values():
        _check_sizes(part, size)
    taken = None if pairs is None else read_pair_images(pairs, known, side=side, size=size)
    nobody = sets.original.take(torch.arange(0))
    apart = nobody if of_others is None else of_others.images
    digests = {name: found for name, found in sets.digests.items() if name != "clean"}
    digests |= {"others": digest(apart)} if of_others else {}
    digests |= {"pairs": _pairs_digest(taken)} if taken else {}
    return FaceSets(
        identities=sets.classes,
        original=sets.original,
        noise=sets.noise,
        released=sets.released,
        test=sets.test,
        others=apart,
        pairs=taken,
        side=side,
        digests=digests,
        seed=seed,
    )


def read_others(others: Part | None, read: Mapping[str, Read], side: int) -> Read | None:
    """Read pictures of other people, none of which may be one of the owner's."""
    if others is None:
        return None
    check_memory([*(part.part for part in read.values()), others], side)
    found = read_part(others, "the other people", side)
    refuse_overlap(found, tuple(read.values()), "the originals, the release or the test set")
    return found


def _check_sizes(read: Read, size: int) -> None:
    for index, found in enumerate(read.sizes):
        if found != (size, size):
            raise InvalidInput(_wrong_size(read.part.entries[index].name, found, size))


def _wrong_size(name: str, found: tuple[int, int], size: int) -> str:
    return (
        f"{name} is {found[0]} x {found[1]} and others are {size} x {size}; recognisers see aligned faces, squares of "
        "one size: crop, align and resize all pictures alike"
    )


def uniform_side(chosen: Chosen) -> int:
    """Return the side of the squares that the originals are, as a sample of them shows.

    Raises:
        InvalidInput: They differ, or are no squares.
    """
    sizes = chosen.sizes()
    if sizes.uniform_side is None:
        msg = (
            f"the originals have different sizes or are no squares (about {sizes.median_side} px); recognisers see "
            "aligned faces, squares of one size: crop, align and resize all pictures alike"
        )
        raise InvalidInput(msg)
    return sizes.uniform_side


def read_pair_images(pairs: Pairs, known: Mapping[str, Read], *, side: int, size: int) -> PairImages:
    """Read the pictures of pairs.

    Args:
        known: Everything that may be trained on or looked up.

    Raises:
        InvalidInput: A picture cannot be read, has another size, or is known.
    """
    digests = pixel_digests(pairs)
    seen = seen_images(pairs, digests, [found for part in known.values() for found in part.digests])
    if seen:
        msg = (
            f"{len(seen)} pictures of the pairs are also in originals, release, test set or other people, such as "
            f"{seen[0]}; pairs show people whom nobody trained on: take them out"
        )
        raise InvalidInput(msg)
    whole = centre_crop(side, 1.0)
    images = np.empty((len(pairs.images), side, side, 3), np.uint8)
    for index, (path, name) in enumerate(zip(pairs.images, pairs.names, strict=True)):
        try:
            pixels = colour(decode(path.read_bytes()))
        except (OSError, UnreadableImage) as error:
            msg = f"{path} cannot be read: {error}"
            raise InvalidInput(msg) from error
        if pixels.shape[:2] != (size, size):
            raise InvalidInput(_wrong_size(name, (pixels.shape[1], pixels.shape[0]), size))
        images[index] = pixels if size == side else whole(pixels, np.zeros(5))
    return PairImages(pairs, torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())


def _pairs_digest(pairs: PairImages) -> str:
    listed = np.stack([pairs.pairs.first, pairs.pairs.second, pairs.pairs.same.astype(np.int64)], axis=1)
    folds = np.zeros((0,), np.int64) if pairs.pairs.folds is None else pairs.pairs.folds
    whole = torch.from_numpy(np.concatenate([listed.reshape(-1), folds]))
    return digest(Labelled(pairs.images, whole))
