"""Pairs of pictures for verification: read from a CSV, with everything refused that would make its figures wrong.

The CSV has a header and one row for each pair: `same` (1 if both pictures show one person, 0 if not), `image_a`,
`image_b`, and if wanted `fold` (a whole number from 0). Pictures are named by their paths in the CSV's own folder; if
they are not all there, by their paths in the folder beside the CSV that has its name: for `pairs.csv`, `pairs/`. Paths
from the root of the file system are taken as they are.
"""

import csv
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from withhold.data.arrays import colour, pixel_digest
from withhold.data.pixels import UnreadableImage, decode
from withhold.errors import InvalidInput
from withhold.evaluation.faces.roc import Integers, Same
from withhold.evaluation.faces.verification import FOLDS, check_divisible, check_folds

COLUMNS = ("same", "image_a", "image_b")
FOLD = "fold"

NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of pictures; each picture is listed once, however many pairs it is in.

    With the embeddings (m, d) of `images` in their order, `cosine_scores(embeddings[first], embeddings[second])` are
    the scores of the pairs.

    Attributes:
        images: m files, in the order in which they are first named.
        names: (m,) the same as the CSV names them.
        first: (n,) each pair's `image_a`, as a position in `images`.
        second: (n,) its `image_b`.
        same: (n,) bool, true where both show one person.
        folds: (n,) number of each pair's fold; None if the CSV has no such column.
    """

    images: tuple[Path, ...]
    names: tuple[str, ...]
    first: Integers
    second: Integers
    same: Same
    folds: Integers | None

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.same)


@dataclass(frozen=True, slots=True)
class _Row:
    origin: str
    same: bool
    images: tuple[str, str]
    fold: int


def read_pairs(file: Path, *, folds: int = FOLDS) -> Pairs:
    """Read the pairs of a CSV. Pictures are looked for, not opened.

    Args:
        folds: How many will be drawn if the CSV has none.

    Raises:
        InvalidInput: The file is missing or no such CSV; a label is not 0 or 1; a picture is paired with itself; a pair
            is there twice, in either order; all pairs are of one kind; there are fewer pairs than folds; or pictures
            are missing.
    """
    rows, divided = _read(file)
    same = np.array([row.same for row in rows], bool)
    numbers = np.array([row.fold for row in rows], np.int64) if divided else None
    try:
        if numbers is None:
            check_divisible(same, folds)
        else:
            check_folds(same, numbers)
    except InvalidInput as error:
        msg = f"{file}: {error}"
        raise InvalidInput(msg) from None
    names = tuple(dict.fromkeys(name for row in rows for name in row.images))
    position = {name: index for index, name in enumerate(names)}
    sides = np.array([[position[name] for name in row.images] for row in rows], np.int64)
    return Pairs(_locate(file, names), names, sides[:, 0], sides[:, 1], same, numbers)


def pixel_digests(pairs: Pairs) -> tuple[bytes, ...]:
    """Hash the pixels of each picture, as `evaluation.images` does for training images.

    Returns:
        m digests (SHA-256), in the order of `pairs.images`.

    Raises:
        InvalidInput: A picture cannot be read, or both pictures of a pair have the same pixels under two names.
    """
    digests = tuple(map(_digest, pairs.images))
    for first, second in zip(pairs.first, pairs.second, strict=True):
        if digests[first] == digests[second]:
            msg = f"{pairs.names[first]} and {pairs.names[second]} are the same picture; take the pair out"
            raise InvalidInput(msg)
    return digests


def seen_images(pairs: Pairs, digests: Sequence[bytes], training: Collection[bytes]) -> tuple[str, ...]:
    """Tell which pictures of the pairs are also among training images, where they would make the figures lie.

    Args:
        digests: Of the pairs' pictures, such as `pixel_digests(pairs)`.
        training: Digests of the training images' pixels, made in the same way.

    Returns:
        Names of those pictures, in the order of `pairs.names`.
    """
    known = frozenset(training)
    return tuple(name for name, digest in zip(pairs.names, digests, strict=True) if digest in known)


def _read(file: Path) -> tuple[list[_Row], bool]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.reader(lines, strict=True)
            columns = [name.strip() for name in next(table, [])]
            _check_columns(columns, file)
            rows = list(_rows(table, columns, file))
    except OSError as error:
        msg = f"cannot read the pairs in {file}: {error.strerror}; expected a CSV file"
        raise InvalidInput(msg) from None
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{file} is no CSV in UTF-8: {error}; save it as one"
        raise InvalidInput(msg) from None
    if not rows:
        msg = f"{file} has no pairs; expected a row for each"
        raise InvalidInput(msg)
    return rows, FOLD in columns


def _check_columns(columns: Sequence[str], file: Path) -> None:
    if sorted(columns) not in (sorted(COLUMNS), sorted((*COLUMNS, FOLD))):
        msg = (
            f"{file} needs the columns {', '.join(COLUMNS)} and may have {FOLD}; its first line has "
            f"{', '.join(columns) or 'none'}"
        )
        raise InvalidInput(msg)


def _rows(table: Iterator[list[str]], columns: Sequence[str], file: Path) -> Iterator[_Row]:
    seen: dict[frozenset[str], int] = {}
    for number, cells in enumerate(table, start=2):
        if not cells:
            continue
        row = _row(columns, cells, f"{file}, row {number}")
        if (earlier := seen.setdefault(frozenset(row.images), number)) != number:
            msg = f"{row.origin}: the pair {' and '.join(row.images)} is in row {earlier} already; leave one out"
            raise InvalidInput(msg)
        yield row


def _row(columns: Sequence[str], cells: Sequence[str], origin: str) -> _Row:
    if len(cells) != len(columns):
        msg = f"{origin}: expected {len(columns)} values, got {len(cells)}; correct the row, or leave it out"
        raise InvalidInput(msg)
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    if given["same"] not in {"0", "1"}:
        msg = f"{origin}: expected same to be 1 (one person) or 0 (two), got {given['same']!r}"
        raise InvalidInput(msg)
    if not (given["image_a"] and given["image_b"]):
        msg = f"{origin}: a picture has no name; correct the row, or leave it out"
        raise InvalidInput(msg)
    images = os.path.normpath(given["image_a"]), os.path.normpath(given["image_b"])
    if images[0] == images[1]:
        msg = f"{origin}: {images[0]} is paired with itself; leave the row out"
        raise InvalidInput(msg)
    fold = given.get(FOLD, "0")
    if not re.fullmatch(r"[0-9]{1,9}", fold):
        msg = f"{origin}: expected {FOLD} to be a whole number from 0, got {fold!r}"
        raise InvalidInput(msg)
    return _Row(origin, given["same"] == "1", images, int(fold))


def _locate(file: Path, names: Sequence[str]) -> tuple[Path, ...]:
    folders = (file.parent, file.parent / file.stem)
    # os.path.isfile is false for names that no file can have, where Path.is_file raises.
    missing = {folder: [name for name in names if not os.path.isfile(folder / name)] for folder in folders}  # noqa: PTH113
    folder = min(folders, key=lambda place: len(missing[place]))
    if gone := missing[folder]:
        msg = (
            f"{len(gone)} of {len(names)} pictures of {file} are missing in {folder}: {', '.join(gone[:NAMED])}"
            f"{', ...' if len(gone) > NAMED else ''}. Pictures belong into the folder of the CSV, or all of them into "
            f"{folders[1]}"
        )
        raise InvalidInput(msg)
    return tuple(folder / name for name in names)


def _digest(path: Path) -> bytes:
    try:
        return pixel_digest(colour(decode(path.read_bytes())))
    except (OSError, UnreadableImage) as error:
        msg = f"{path} cannot be read: {error}"
        raise InvalidInput(msg) from error
