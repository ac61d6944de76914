"""Which images an evaluation uses: originals, release and test set, opened and checked against each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from withhold.data.arrays import spread_rows
from withhold.data.dataset import RELEASE_DOCUMENT, Dataset
from withhold.data.entries import Entries, Rows, is_readable, list_entries, read_each
from withhold.data.open import open_dataset
from withhold.data.pairing import pair
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput, WithholdError
from withhold.evaluation.settings import SharedSettings
from withhold.networks.choose import Sizes
from withhold.seeds import derive_seed

SIZED = 256
"""Images whose sizes are looked at to choose a network."""

NAMED = 3


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the datasets of an evaluation lie.

    Attributes:
        originals: The dataset as it was before protection.
        released: Its release.
        test: Clean images of the same classes that are in neither.
        clean: Images that the competitor owns besides; None if they are to be drawn from the originals.
    """

    originals: Path
    released: Path
    test: Path
    clean: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some images of a dataset.

    Attributes:
        labels: Class of each image, numbered as in the originals.
    """

    dataset: Dataset
    entries: Entries
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.entries)

    def take(self, rows: Rows) -> "Part":
        """Pick images by position."""
        return Part(self.dataset, self.entries.take(rows), self.labels[rows])

    def pictures(self, rows: Rows) -> Iterator[Picture]:
        """Decode some images as they are."""
        chosen = self.entries.take(rows)
        for entry, stored in zip(chosen, read_each(self.dataset, chosen), strict=True):
            try:
                if not isinstance(stored, bytes):
                    raise stored
                yield self.dataset.decode(stored)
            except (OSError, WithholdError) as error:
                msg = f"{entry.name} cannot be read: {error}"
                raise InvalidInput(msg) from error


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The images that an evaluation uses; originals and released ones in the same order.

    Attributes:
        clean: Images that the competitor owns; None if those are to be drawn from the originals.
    """

    classes: tuple[str, ...]
    original: Part
    released: Part
    test: Part
    clean: Part | None

    def sizes(self) -> Sizes:
        """Summarise the sizes of a sample of the originals."""
        rows = spread_rows(len(self.original), SIZED, random_access=self.original.dataset.random_access)
        shapes = [picture.levels.shape for picture in self.original.pictures(rows)]
        return Sizes.of([(width, height) for height, width, _ in shapes])


def choose_images(sources: Sources, settings: SharedSettings) -> Chosen:
    """Open the datasets of an evaluation and check that they belong together.

    Raises:
        InvalidInput: They differ in classes, or an original has no released image; the message says what differs.
    """
    if (sources.originals / RELEASE_DOCUMENT).is_file() and not (sources.released / RELEASE_DOCUMENT).is_file():
        msg = f"{sources.originals} is a release and {sources.released} is none: give the originals first"
        raise InvalidInput(msg)
    before, after = (open_dataset(root, splits=settings.splits) for root in (sources.originals, sources.released))
    tested = open_dataset(sources.test, splits=settings.test_splits)
    _check_same_classes(before, after, sources.released)
    classes = tuple(before.classes)
    rows, partners = _paired(before, after, sources.released)
    source = Entries(list_entries(before))
    labels = np.array([entry.label for entry in source], np.int64)[rows]
    kept = _per_class(labels, settings.per_class, settings.seed)
    original = Part(before, source.take(rows[kept]), labels[kept])
    release = Part(after, Entries(list_entries(after)).take(partners[kept]), labels[kept])
    _check_same_labels(original, release)
    own = None if sources.clean is None else _in_classes(open_dataset(sources.clean), classes, sources.clean)
    return Chosen(classes, original, release, _in_classes(tested, classes, sources.test), own)


def other_release(chosen: Chosen, place: Path, splits: Sequence[str]) -> Part:
    """Open another release of the same originals; its images are in their order.

    Raises:
        InvalidInput: It differs in classes, or an original has no image in it.
    """
    before, after = chosen.original.dataset, open_dataset(place, splits=splits)
    _check_same_classes(before, after, place)
    source, partners = Entries(list_entries(before)), Entries(list_entries(after))
    partner = {source[int(row)].name: other for row, other in zip(*_paired(before, after, place), strict=True)}
    rows = np.array([partner[entry.name] for entry in chosen.original.entries], np.int64)
    return Part(after, partners.take(rows), chosen.original.labels)


def _check_same_classes(before: Dataset, after: Dataset, place: Path) -> None:
    if tuple(before.classes) != tuple(after.classes):
        msg = f"{place} is no release of these originals: {_difference(after.classes, before.classes)}"
        raise InvalidInput(msg)


def _difference(found: Sequence[str], expected: Sequence[str]) -> str:
    unknown, absent = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    parts = [
        f"{what} {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"
        for what, names in (("it has the unknown classes", unknown), ("it lacks the classes", absent))
        if names
    ]
    return " and ".join(parts) if parts else f"its {len(found)} classes are in another order"


def _paired(before: Dataset, after: Dataset, place: Path) -> tuple[Rows, Rows]:
    """Return the rows of originals and of the released images that belong to them."""
    pairing = pair(before, after)
    entries = Entries(pairing.before).take(pairing.missing)
    gone = [
        entry.name
        for entry, stored in zip(entries, read_each(before, entries), strict=True)
        if is_readable(before, stored)
    ]
    extra = [entry.name for entry in Entries(pairing.after).take(pairing.extra)]
    for names, what in ((gone, "of the originals are not in it"), (extra, "of its images belong to no original")):
        if names:
            msg = (
                f"{place} is no release of these originals: {len(names)} {what}, such as {names[0]}; "
                "`withhold verify` names all of them. Where only some splits were released, name them with --splits."
            )
            raise InvalidInput(msg)
    return pairing.pairs[0], pairing.pairs[1]


def _per_class(labels: npt.NDArray[np.int64], most: int | None, seed: int) -> Rows:
    if most is None:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(derive_seed(seed, "images of each class")).permutation(len(labels))
    chosen = [shuffled[labels[shuffled] == label][:most] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def _check_same_labels(original: Part, released: Part) -> None:
    found = np.array([entry.label for entry in released.entries], np.int64)
    differing = np.flatnonzero(found != original.labels)
    if len(differing):
        name = original.entries[int(differing[0])].name
        msg = f"{len(differing)} released images have another label than their original, such as {name}"
        raise InvalidInput(msg)


def _in_classes(dataset: Dataset, classes: Sequence[str], place: Path) -> Part:
    """Take all images of a dataset, with its labels renumbered to the originals' classes."""
    if set(dataset.classes) != set(classes):
        msg = f"{place} has other classes than the originals: {_difference(dataset.classes, classes)}"
        raise InvalidInput(msg)
    number = np.array([classes.index(name) for name in dataset.classes])
    entries = Entries(list_entries(dataset))
    return Part(dataset, entries, number[[entry.label for entry in entries]])
