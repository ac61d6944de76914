"""Verification of a release from nothing but the files: no manifest, no trust in how it was made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import Literal

import numpy as np

from withhold.data.dataset import Dataset, Entry
from withhold.data.entries import Entries, Stored, codes_of, in_groups, is_readable, read_each, read_groups, size_of
from withhold.data.listing import walk_hidden
from withhold.data.open import open_dataset
from withhold.data.pairing import Pairing, pair
from withhold.data.parallel import map_ahead
from withhold.data.pixels import Picture, UnreadableImage, change, levels
from withhold.data.place import Place, place_of
from withhold.progress import SILENT, Reporter
from withhold.release.document import NAME as DOCUMENT
from withhold.release.document import ReleaseDocument, read_document
from withhold.release.reaching import check_published, check_reachable
from withhold.release.scan import reason

DEFAULT_EPS = Fraction(8, 255)

StatedBy = Literal["argument", "release.json", "default"]


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest change allowed, as a fraction of the pixel range, and who said so."""

    eps: Fraction
    stated_by: StatedBy


@dataclass(frozen=True, slots=True)
class Offender:
    """An image, file or property of the release that breaks the promise, and how.

    Attributes:
        name: Name in the source; in the release for what the source does not have.
    """

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What the files say.

    Attributes:
        images: Images in the release.
        checked: Pairs of original and released image that were compared pixel by pixel.
        offenders: Everything that is wrong, in the order of the source.
        skipped: Images that are unreadable in the source and absent from the release, as they should be.
        largest_change: In levels of 8 bit, over all compared pairs.
        bound: Levels that were allowed.
        eps: The bound as a fraction of the pixel range.
        bound_from: Where it came from: the caller, the release's own release.json, or the default.
        unchanged: Images that are as they were; right where release.json says that they show no face.
    """

    images: int
    checked: int
    offenders: tuple[Offender, ...]
    skipped: tuple[str, ...]
    largest_change: float
    bound: int
    eps: Fraction
    bound_from: StatedBy
    unchanged: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.offenders

    @property
    def bound_is_doubtful(self) -> bool:
        """Whether only the release itself says that it may differ by more than the default bound."""
        return self.bound_from == "release.json" and self.eps > DEFAULT_EPS


def verify(
    source: Place | str,
    released: Place | str,
    *,
    eps: Fraction | None = None,
    splits: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> Verification:
    """Compare a release with its source, on decoded pixels.

    Args:
        eps: Largest change allowed, as a fraction of the pixel range; if absent what release.json promises, else 8/255.
        splits: Splits of the source that were released; all if empty.

    Raises:
        InvalidInput: One of the two is no dataset at all or in no store that can be reached, or release.json is none.
    """
    for place in (source := place_of(source), released := place_of(released)):
        check_reachable(place)
    before, after = open_dataset(source, splits=splits), open_dataset(released)
    document = read_document(released.parent if released.is_file() else released)
    check_published(released, document)
    if eps is not None:
        bound = Bound(eps, "argument")
    else:
        bound = Bound(document.eps, "release.json") if document else Bound(DEFAULT_EPS, "default")
    return compare(before, after, bound, document, reporter)


def compare(
    before: Dataset,
    after: Dataset,
    bound: Bound,
    document: ReleaseDocument | None,
    reporter: Reporter,
) -> Verification:
    """Compare two open datasets; see `verify`."""
    found = _Findings(levels(bound.eps))
    paired = pair(before, after)
    found.offenders += _document_offenders(document, before, paired)
    if before.layout != after.layout:
        found.offenders.append(Offender("layout", f"is {before.layout} in the source, {after.layout} in the release"))
    found.offenders += _class_offenders(before.classes, after.classes)
    found.offenders += [Offender(name, "is in the release, but is no image of it") for name in _foreign(after)]
    reporter.start("Verifying", len(paired.before), "images")
    _check_pairs(before, after, paired, found, reporter)
    found.offenders += _unchanged_offenders(found.unchanged, document)
    _check_missing(before, paired, found, reporter)
    extra = paired.after.column("name").take(paired.extra)
    found.offenders += [Offender(str(name), "is in the release, but not in the source") for name in extra.to_pylist()]
    found.offenders += _order_offenders(paired)
    reporter.finish()
    return Verification(
        images=len(paired.after),
        checked=found.checked,
        offenders=tuple(found.offenders),
        skipped=tuple(found.skipped),
        largest_change=found.largest,
        bound=found.bound,
        eps=bound.eps,
        bound_from=bound.stated_by,
        unchanged=tuple(found.unchanged.values()),
    )


def _foreign(release: Dataset) -> list[str]:
    """Name the files of a release, hidden ones included, that are neither of the dataset nor its release.json."""
    hidden = walk_hidden(release.root) if release.root.is_dir() else ()
    return [name for name in (*release.ignored(), *hidden) if name != DOCUMENT and not name.endswith("/")]


@dataclass(slots=True)
class _Findings:
    bound: int
    offenders: list[Offender] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unchanged: dict[str, str] = field(default_factory=dict)
    checked: int = 0
    largest: float = 0.0


@dataclass(frozen=True, slots=True)
class _Pair:
    before: Entry
    after: Entry
    original: Stored
    released: Stored


def _check_pairs(before: Dataset, after: Dataset, paired: Pairing, found: _Findings, reporter: Reporter) -> None:
    def check(group: list[_Pair]) -> list[tuple[list[str], float | None]]:
        return [_check_pair(before, after, each, found.bound) for each in group]

    entries = iter(Entries(paired.before).take(paired.pairs[0]))
    names = iter(Entries(paired.after).take(paired.pairs[1]))
    for results in map_ahead(check, _groups(before, after, paired)):
        both = zip(islice(entries, len(results)), islice(names, len(results)), results, strict=True)
        for entry, released, (problems, largest) in both:
            found.offenders += [Offender(entry.name, problem) for problem in problems]
            found.checked += largest is not None
            if largest == 0:
                found.unchanged[released.name] = entry.name
            found.largest = max(found.largest, largest or 0.0)
        reporter.advance(len(results))


def _groups(before: Dataset, after: Dataset, paired: Pairing) -> Iterator[list[_Pair]]:
    sides = (Entries(paired.before).take(paired.pairs[0]), Entries(paired.after).take(paired.pairs[1]))
    pairs = zip(*sides, read_each(before, sides[0]), read_each(after, sides[1]), strict=True)
    return in_groups((_Pair(*each) for each in pairs), lambda pair: size_of(pair.original) + size_of(pair.released))


def _check_pair(before: Dataset, after: Dataset, pair: _Pair, bound: int) -> tuple[list[str], float | None]:
    """Say what is wrong with one pair, and its largest change if the two could be compared."""
    problems = []
    was, now = before.classes[pair.before.label], after.classes[pair.after.label]
    if was != now:
        problems.append(f"has the class {was!r} in the source, {now!r} in the release")
    if pair.before.split != pair.after.split:
        problems.append(f"is in split {pair.before.split!r} of the source, {pair.after.split!r} of the release")
    original, released = _decoded(before, pair.original), _decoded(after, pair.released)
    if isinstance(original, str):
        return [*problems, f"cannot be compared, the source image is unreadable: {original}"], None
    if isinstance(released, str):
        return [*problems, f"is unreadable in the release: {released}"], None
    differing = _shape_problems(original, released)
    if differing:
        return problems + differing, None
    largest = float(change(original, released).max())
    return problems + _pixel_problems(original, released, largest, bound), largest


def _decoded(dataset: Dataset, stored: Stored) -> Picture | str:
    try:
        return dataset.decode(stored) if isinstance(stored, bytes) else reason(stored)
    except UnreadableImage as error:
        return reason(error)


def _shape_problems(original: Picture, released: Picture) -> list[str]:
    problems = []
    (old_height, old_width), (height, width) = original.levels.shape[:2], released.levels.shape[:2]
    if (old_height, old_width) != (height, width):
        problems.append(f"is {old_width} x {old_height} pixels in the source, {width} x {height} in the release")
    if original.mode != released.mode:
        problems.append(f"has mode {original.mode} in the source, {released.mode} in the release")
    return problems


def _pixel_problems(original: Picture, released: Picture, largest: float, bound: int) -> list[str]:
    problems = []
    if largest > bound:
        problems.append(f"changed by {largest:g} levels, allowed are {bound}")
    if original.alpha is not None and (released.alpha is None or not np.array_equal(original.alpha, released.alpha)):
        problems.append("changed in its alpha channel")
    return problems


def _unchanged_offenders(unchanged: Mapping[str, str], document: ReleaseDocument | None) -> list[Offender]:
    """No image may be unchanged but those that release.json says show no face, and they must be.

    Args:
        unchanged: Released name -> name in the source.
    """
    stated = document.unchanged if document else ()
    allowed = set(stated)
    wrong = [name for released, name in unchanged.items() if released not in allowed]
    changed = [name for name in stated if name not in unchanged]
    return [Offender(name, "is unchanged, and so unprotected") for name in wrong] + [
        Offender(name, f"is to be unchanged, says {DOCUMENT}, and is not") for name in changed
    ]


def _check_missing(before: Dataset, paired: Pairing, found: _Findings, reporter: Reporter) -> None:
    """An image without a released one is missing, unless it could not have been protected."""

    def readable(group: list[Stored]) -> list[bool]:
        return [is_readable(before, stored) for stored in group]

    missing = Entries(paired.before).take(paired.missing)
    entries = iter(missing)
    for results in map_ahead(readable, read_groups(before, missing)):
        for entry, whole in zip(islice(entries, len(results)), results, strict=True):
            if whole:
                found.offenders.append(Offender(entry.name, "is missing from the release"))
            else:
                found.skipped.append(entry.name)
        reporter.advance(len(results))


def _document_offenders(document: ReleaseDocument | None, before: Dataset, paired: Pairing) -> list[Offender]:
    if document is None:
        return []
    stated = [("images", document.images, len(paired.after)), ("layout", document.layout, before.layout)]
    return [Offender(DOCUMENT, f"states {what} {said!r}, found {is_!r}") for what, said, is_ in stated if said != is_]


def _class_offenders(before: Sequence[str], after: Sequence[str]) -> list[Offender]:
    """Class names must be the source's, in its order; one may be absent with its images, which are named themselves."""
    remaining = iter(before)
    foreign = [name for name in after if name not in remaining]
    if not foreign:
        return []
    return [Offender("classes", f"{name!r} is not a class of the source, or not at its place") for name in foreign]


def _order_offenders(paired: Pairing) -> list[Offender]:
    """Images that share a shard must be in the order of the source."""
    if not paired.pairs.shape[1]:
        return []
    (_, shards), rows = codes_of(paired.after.column("shard")), paired.after.column("row").to_numpy()
    shard, row = shards[paired.pairs[1]], rows[paired.pairs[1]]
    behind = np.flatnonzero((shard[1:] == shard[:-1]) & (row[1:] < row[:-1])) + 1
    names = paired.before.column("name").take(paired.pairs[0][behind]).to_pylist()
    return [Offender(str(name), "is not at its place in the release's order") for name in names]
