"""Shows what protection does to a picture: original, released, and the difference magnified, on one sheet."""

import difflib
import functools
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from withhold.data.atomic import write_atomic
from withhold.data.dataset import Dataset, Entry
from withhold.data.entries import Entries
from withhold.data.open import open_dataset
from withhold.data.pairing import Pairing, pair
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.release.sheet import Row, draw_sheet
from withhold.release.sidecar import Sidecar
from withhold.release.stored_plan import load_plan
from withhold.seeds import derive_seed


def show(
    source: Path,
    released: Sequence[Path],
    output: Path,
    *,
    names: Sequence[str] = (),
    count: int = 6,
    seed: int = 0,
    magnify: float = 10,
    eps: Sequence[Fraction] = (),
) -> Path:
    """Draw sampled or named images of a dataset before and after protection.

    Args:
        source: The original dataset.
        released: One release of it or several; each gets its columns.
        output: The sheet to write; its suffix names the format.
        names: Images to show, as `verify` and the manifest call them in the source; sampled over the classes if empty.
        magnify: Factor on the difference, of which zero is drawn mid grey.
        eps: Strengths at which the images are crafted anew, with the surrogate kept beside the first release.

    Returns:
        The sheet's path.

    Raises:
        InvalidInput: A name is not in the dataset, or an image is missing from a release or has another size there.
    """
    _check(released, output, count, magnify)
    dataset = open_dataset(source, splits=planned_splits(released[0]))
    releases = [_Release.of(dataset, path) for path in released]
    listing = releases[0].pairing.before
    chosen = _named(listing, names, source) if names else _sampled(listing, releases, count, seed)
    rows = [_row(dataset, entry, releases) for entry in chosen]
    titles = ["Released"] if len(released) == 1 else [path.resolve().name for path in released]
    if eps:
        from withhold.release.recraft import recraft  # noqa: PLC0415 - torch only when something is crafted

        for title, pictures in recraft(dataset, released[0], chosen, [row.original for row in rows], eps):
            titles.append(title)
            rows = [Row(r.name, r.original, [*r.versions, p]) for r, p in zip(rows, pictures, strict=True)]
    _save(draw_sheet(titles, rows, magnify), output)
    return output


@dataclass(frozen=True, slots=True, eq=False)
class _Release:
    dataset: Dataset
    pairing: Pairing

    @staticmethod
    def of(source: Dataset, path: Path) -> "_Release":
        release = open_dataset(path)
        return _Release(release, pair(source, release))

    def partner(self, entry: Entry) -> Entry:
        """Find the released image of an original."""
        row = pc.index(self.pairing.before.column("name"), entry.name).as_py()
        (found,) = np.nonzero(self.pairing.pairs[0] == row)
        if not len(found):
            msg = f"{entry.name} is not in the release {self.dataset.root}; verify names all that is missing"
            raise InvalidInput(msg)
        return Entries(self.pairing.after)[int(self.pairing.pairs[1][found[0]])]


def planned_splits(release: Path) -> tuple[str, ...]:
    """Read from its private folder which splits of the source a release was made of; empty for all, or if unknown."""
    sidecar = Sidecar(release.resolve())
    if not sidecar.plan_document.is_file():
        return ()
    return tuple(load_plan(sidecar.plan_table, sidecar.plan_document).settings["splits"])


def _check(released: Sequence[Path], output: Path, count: int, magnify: float) -> None:
    if not released or count < 1 or magnify <= 0:
        msg = "show needs at least one release, a count of at least 1 and a magnification above 0"
        raise InvalidInput(msg)
    if output.suffix.lower() not in Image.registered_extensions():
        msg = f"{output} has no suffix of a picture format; name it .png"
        raise InvalidInput(msg)
    if not output.resolve().parent.is_dir():
        msg = f"the folder of {output} does not exist; create it first"
        raise InvalidInput(msg)
    if not os.access(output.resolve().parent, os.W_OK):
        msg = f"the folder of {output} cannot be written to; name a place where it can"
        raise InvalidInput(msg)


def _named(listing: pa.Table, names: Sequence[str], source: Path) -> list[Entry]:
    known = {str(name): row for row, name in enumerate(listing.column("name").to_pylist())}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            msg = f"no image is called {name!r} in {source}; the nearest name is {near!r}"
            raise InvalidInput(msg)
    return list(Entries(listing).take(np.array([known[name] for name in names])))


def _sampled(listing: pa.Table, releases: Sequence[_Release], count: int, seed: int) -> list[Entry]:
    """Draw images that every release has, in random order, one of each class before a second of any."""
    rows = functools.reduce(np.intersect1d, [release.pairing.pairs[0] for release in releases])
    if not len(rows):
        msg = "no image of the source is in every release; are these releases of it? Run verify."
        raise InvalidInput(msg)
    labels = listing.column("label").to_numpy()
    turns: Counter[int] = Counter()
    drawn = []
    for row in np.random.default_rng(derive_seed(seed, "show")).permutation(rows):
        label = int(labels[row])
        drawn.append((turns[label], int(row)))
        turns[label] += 1
    drawn.sort(key=lambda turn_and_row: turn_and_row[0])
    return list(Entries(listing).take(np.array([row for _, row in drawn[:count]])))


def _row(dataset: Dataset, entry: Entry, releases: Sequence[_Release]) -> Row:
    original = _picture(dataset, entry)
    versions = []
    for release in releases:
        version = _picture(release.dataset, release.partner(entry))
        if (version.levels.shape, version.mode) != (original.levels.shape, original.mode):
            msg = (
                f"{entry.name} has another size or mode in {release.dataset.root}; is that a release of {dataset.root}?"
            )
            raise InvalidInput(msg)
        versions.append(version)
    return Row(entry.name, original, versions)


def _picture(dataset: Dataset, entry: Entry) -> Picture:
    (stored,) = dataset.read([entry])
    return dataset.decode(stored)


def _save(sheet: Image.Image, output: Path) -> None:
    buffer = io.BytesIO()
    sheet.save(buffer, Image.registered_extensions()[output.suffix.lower()])
    write_atomic(output, buffer.getvalue())
