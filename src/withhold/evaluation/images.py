"""The images of an evaluation: originals, release and clean test set, checked against each other and held in memory."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from withhold.data.arrays import Pixels, Prepare, centre_crop, read_arrays, spread_rows
from withhold.data.dataset import Dataset
from withhold.data.entries import Entries, Rows, is_readable, list_entries, read_each
from withhold.data.open import open_dataset
from withhold.data.pairing import pair
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput, RunStopped, WithholdError
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.settings import EvaluateSettings
from withhold.networks.choose import Sizes, Views
from withhold.seeds import derive_seed

SIZED = 256
"""Images whose sizes are looked at to choose a network."""

STORED_SHARE = 8 / 7
"""Side at which large images are held, as a multiple of the networks' input: 256 for 224."""

NAMED = 3

HELD_BYTES = 16 << 30
"""Most pixels that are held in memory, of all sets together."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """All images of an evaluation in memory, as the networks get them; training sets at the side they are stored at.

    Attributes:
        noise: The originals under random noise of the bound's size.
        clean: Empty if the competitor's own images are to be drawn from the originals.
        side: Of the networks' input; the test images have it.
        digests: SHA-256 of each set's pixels and labels.
    """

    classes: tuple[str, ...]
    original: Labelled
    noise: Labelled
    released: Labelled
    test: Labelled
    clean: Labelled
    side: int
    digests: dict[str, str]


def choose_images(sources: Sources, settings: EvaluateSettings) -> Chosen:
    """Open the datasets of an evaluation and check that they belong together.

    Raises:
        InvalidInput: They differ in classes, or an original has no released image; the message says what differs.
    """
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


def load_sets(chosen: Chosen, side: int, views: Views, bound: int, seed: int) -> Sets:
    """Read all images.

    Args:
        side: Of the networks' input.
        views: `native` if they see whole images, which then have this side; `crop` for random parts of larger ones.
        bound: Levels of the random noise of the control.

    Raises:
        InvalidInput: A test image is also a training image, or an image cannot be read.
    """
    stored = side if views == "native" else round(side * STORED_SHARE)
    _check_memory(chosen, stored)
    whole = _square(stored, 1.0)
    tested = whole if views == "native" else centre_crop(side)
    original, known = _read(chosen.original, whole, stored)
    released, published = _read(chosen.released, whole, stored)
    test, unseen = _read(chosen.test, tested, side)
    _check_disjoint(chosen, known, published, unseen)
    noise, _ = _read(chosen.original, _with_noise(whole, bound), stored, seed=derive_seed(seed, "noise control"))
    clean = Labelled(original.images[:0], original.labels[:0])
    if chosen.clean is not None:
        clean, own = _read(chosen.clean, whole, stored)
        _refuse_overlap(chosen.clean, own, set(unseen), "the competitor's clean images", "the test set")
    sets = {"original": original, "noise": noise, "released": released, "test": test, "clean": clean}
    digests = {name: _digest(part) for name, part in sets.items()}
    return Sets(chosen.classes, original, noise, released, test, clean, side, digests)


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


def _check_memory(chosen: Chosen, stored: int) -> None:
    parts = (chosen.original, chosen.original, chosen.released, chosen.test, chosen.clean)
    needed = sum(len(part) for part in parts if part is not None) * 3 * stored**2
    if needed > HELD_BYTES:
        msg = (
            f"these images take {needed / 2**30:.0f} GiB of memory at {stored} x {stored}; at most "
            f"{HELD_BYTES / 2**30:.0f} GiB are used. Evaluate on a part of each class (--per-class), or at a smaller "
            "--input-size"
        )
        raise InvalidInput(msg)


def _square(side: int, share: float) -> Prepare:
    resized = centre_crop(side, share)

    def prepare(pixels: Pixels, draw: npt.NDArray[np.float64]) -> Pixels:
        return pixels if pixels.shape[:2] == (side, side) else resized(pixels, draw)

    return prepare


def _with_noise(prepare: Prepare, bound: int) -> Prepare:
    """Change every channel of every pixel by `bound` levels up or down, at random, before an image is resized."""

    def disturbed(pixels: Pixels, draw: npt.NDArray[np.float64]) -> Pixels:
        generator = np.random.default_rng((draw * 2**53).astype(np.uint64))
        signs = generator.choice([-1.0, 1.0], size=pixels.transpose(2, 0, 1).shape)
        return prepare(Picture(pixels).perturbed(signs, bound).levels, draw)

    return disturbed


def _read(part: Part, prepare: Prepare, side: int, *, seed: int = 0) -> tuple[Labelled, list[bytes]]:
    """Read images with the digest of each one's pixels before it is resized."""

    def hashed(pixels: Pixels, draw: npt.NDArray[np.float64]) -> tuple[Pixels, bytes]:
        digest = hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()
        return prepare(pixels, draw), digest

    images = np.empty((len(part), side, side, 3), np.uint8)
    digests = []
    draws = np.random.default_rng(seed).random((len(part), 5))
    try:
        for index, (pixels, digest) in enumerate(read_arrays(part.dataset, part.entries, hashed, draws)):
            images[index] = pixels
            digests.append(digest)
    except RunStopped as error:
        raise InvalidInput(str(error)) from error
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Labelled(tensor, torch.from_numpy(part.labels)), digests


def _check_disjoint(
    chosen: Chosen, known: Sequence[bytes], published: Sequence[bytes], unseen: Sequence[bytes]
) -> None:
    _refuse_overlap(chosen.test, unseen, {*known, *published}, "the test set", "the training set")


def _refuse_overlap(part: Part, digests: Sequence[bytes], others: set[bytes], this: str, that: str) -> None:
    shared = [index for index, digest in enumerate(digests) if digest in others]
    if shared:
        msg = (
            f"{len(shared)} images of {this} are also in {that}, such as {part.entries[shared[0]].name}, so the "
            "measured accuracy would lie; take them out. Where one dataset holds both, use --splits and --test-splits."
        )
        raise InvalidInput(msg)


def _digest(part: Labelled) -> str:
    digest = hashlib.sha256(repr(tuple(part.images.shape)).encode())
    for tensor in (part.images, part.labels):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
