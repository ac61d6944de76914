"""Which released image belongs to which original, found from the two listings alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from withhold.data.dataset import Dataset
from withhold.data.entries import (
    Entries,
    Rows,
    Stored,
    codes_of,
    is_numbered,
    is_readable,
    list_entries,
    read_groups,
    released_names,
    whole,
)
from withhold.data.parallel import map_ahead

LOSSLESS = ("png", "webp")


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Two listings and how they fit together.

    Attributes:
        before, after: Listings of source and release.
        pairs: (2, n), rows of `before`, ascending, and the rows of `after` that belong to them.
        missing: Rows of `before` without a released image.
        extra: Rows of `after` that belong to no original.
    """

    before: pa.Table
    after: pa.Table
    pairs: Rows
    missing: Rows
    extra: Rows


def pair(before: Dataset, after: Dataset) -> Pairing:
    """Pair a source with its release by name, whichever lossless format it was released in.

    Where images are only numbered, those behind a left out one have moved up; see `_count_up`.
    """
    source, release = list_entries(before), list_entries(after)
    if len(release) < len(source) and is_numbered(source):
        return pairing_of(source, release, _count_up(before, source, release))
    candidates = []
    for each in LOSSLESS:
        candidates.append(_match(released_names(before, Entries(source), each), release))
        if (candidates[-1] >= 0).all():
            break
    return pairing_of(source, release, max(candidates, key=lambda rows: int((rows >= 0).sum())))


def _count_up(dataset: Dataset, source: pa.Table, release: pa.Table) -> Rows:
    """Pair the readable images of each file with the rows of its release, if there are as many; else by number."""
    partner = _match(whole(source.column("name")), release)
    released = _rows_of_shards(release)
    for shard, rows in _rows_of_shards(source).items():
        others = released.get(shard, np.empty(0, np.int64))
        if len(others) == len(rows):
            continue
        readable = rows[_readable(dataset, Entries(source).take(rows))]
        if len(readable) == len(others):
            partner[rows] = -1
            partner[readable] = others
    return partner


def _rows_of_shards(listing: pa.Table) -> dict[str, Rows]:
    shards, codes = codes_of(listing.column("shard"))
    ends = np.cumsum(np.bincount(codes, minlength=len(shards)))
    return dict(zip(shards, np.split(np.argsort(codes, kind="stable"), ends[:-1]), strict=True))


def _readable(dataset: Dataset, entries: Entries) -> npt.NDArray[np.bool_]:
    def look_at(group: list[Stored]) -> list[bool]:
        return [is_readable(dataset, stored) for stored in group]

    looks = map_ahead(look_at, read_groups(dataset, entries))
    return np.fromiter((each for look in looks for each in look), bool, len(entries))


def pairing_of(before: pa.Table, after: pa.Table, partner: Rows) -> Pairing:
    """Build a pairing from the row of `after` for each row of `before`, -1 for none."""
    paired = np.flatnonzero(partner >= 0)
    used = np.zeros(len(after), bool)
    used[partner[paired]] = True
    pairs = np.stack([paired, partner[paired]])
    return Pairing(before, after, pairs, np.flatnonzero(partner < 0), np.flatnonzero(~used))


def _match(expected: "pa.Array[Any]", release: pa.Table) -> Rows:
    rows = pc.index_in(expected, value_set=whole(release.column("name")))
    filled: npt.NDArray[Any] = rows.fill_null(-1).to_numpy(zero_copy_only=False)
    return filled.astype(np.int64)
