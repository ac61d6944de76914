"""Keeping a plan beside the release, and refusing to resume it under other circumstances."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from withhold.data.atomic import atomic_file, write_atomic
from withhold.data.dataset import Dataset
from withhold.data.entries import ENTRY, TEXT, Entries, Rows, Stored, list_entries, read_groups, refuse_failure, whole
from withhold.data.parallel import map_ahead
from withhold.errors import InvalidInput
from withhold.progress import Reporter
from withhold.release.environment import Environment
from withhold.release.face_column import COLUMN, FACES
from withhold.release.plan import Plan
from withhold.release.scan import LOOK, enumerate_some
from withhold.version import __version__

NAMED = 5

ROWS = 1 << 18
"""Images of a row group, which exist a second time while they are stored, read or compared."""

_TYPES: Mapping[str, pa.DataType] = {
    **{field.name: field.type for field in (*ENTRY, *LOOK)},
    "released_name": TEXT,
    "batch": pa.int32(),
    FACES: COLUMN,
}
"""Of the columns of a plan in memory."""


def save_plan(plan: Plan, table: Path, document: Path) -> None:
    """Store a plan; the document is written last, and its presence makes the plan valid."""
    schema = pa.schema([(name, _plain(_TYPES[name])) for name in plan.table.column_names])
    with atomic_file(table) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, len(plan.table), ROWS):
            writer.write_table(plan.table.slice(start, ROWS).cast(schema))
    content = {
        "version": plan.version,
        "settings": plan.settings,
        "surrogate": plan.surrogate,
        "environment": asdict(plan.environment),
        "layout": plan.layout,
        "classes": list(plan.classes),
        "table_sha256": _digest(table),
    }
    write_atomic(document, json.dumps(content, indent=1, ensure_ascii=False).encode())


def load_plan(table: Path, document: Path) -> Plan:
    """Read a stored plan back.

    Raises:
        InvalidInput: It was changed or damaged since it was stored.
    """
    try:
        content = json.loads(document.read_bytes())
        if _digest(table) == content.pop("table_sha256"):
            environment = Environment(**content.pop("environment"))
            return Plan(_read(table), tuple(content.pop("classes")), environment=environment, **content)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    msg = f"the plan in {document.parent} is damaged; delete that folder to start over."
    raise InvalidInput(msg)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Undo a dictionary: each row group of a file would hold the whole of it."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> pa.Table:
    """Read the columns one after the other, so that only one is there in pieces and as a whole at the same time."""
    repeated = [name for name, kind in _TYPES.items() if pa.types.is_dictionary(kind)]
    with pq.ParquetFile(path, read_dictionary=repeated) as file:
        names = [name for name in file.schema_arrow.names if name in _TYPES]  # once there was one more
        largest_first = sorted(names, key=lambda name: pa.types.is_integer(_TYPES[name]) or name in repeated)
        columns = {name: whole(file.read(columns=[name]).column(0).cast(_TYPES[name])) for name in largest_first}
    return pa.table({name: columns[name] for name in names})


def check_resumable(plan: Plan, settings: dict[str, Any], surrogate: str | None, sidecar: Path) -> None:
    """Refuse a run with other settings or weights than it began with.

    Raises:
        InvalidInput: The message names every setting that differs, with both values.
    """
    differing = [
        f"{name} was {plan.settings.get(name)!r} and is now {settings.get(name)!r}"
        for name in sorted(plan.settings.keys() | settings.keys())
        if plan.settings.get(name) != settings.get(name)
    ]
    if plan.surrogate != surrogate:
        differing.append("the surrogate's weights are others")
    _refuse_differing(differing, sidecar)


def check_same_computation(plan: Plan, environment: Environment, sidecar: Path) -> None:
    """Refuse to craft on where the rest of a release would come out differently from its beginning.

    Raises:
        InvalidInput: The version of Withhold or of PyTorch, or the type of device, is another one.
    """
    differing = plan.environment.differences(environment)
    if plan.version != __version__:
        differing.append(f"Withhold was version {plan.version} and is now {__version__}")
    _refuse_differing(differing, sidecar)


def _refuse_differing(differing: Sequence[str], sidecar: Path) -> None:
    if differing:
        msg = (
            f"the run in {sidecar} began differently: {'; '.join(differing)}. "
            f"Give what it began with, choose another destination, or delete that folder to start over."
        )
        raise InvalidInput(msg)


def check_source(plan: Plan, dataset: Dataset, sidecar: Path, reporter: Reporter) -> None:
    """Refuse to go on when the source is not what was planned for, to the byte; nothing is decoded.

    Raises:
        InvalidInput: Images were added, removed, relabelled or changed; the message names the first ones.
    """
    listing = list_entries(dataset)
    changes = _listing_changes(plan.table, listing)
    if not changes and (tuple(dataset.classes), dataset.layout) != (plan.classes, plan.layout):
        changes = ["its classes or its layout are others"]
    if not changes:
        changes = _content_changes(plan.table, dataset, reporter)
    if changes:
        msg = (
            f"the source has changed since the run in {sidecar} began: {'; '.join(changes)}. "
            f"Restore it, choose another destination, or delete that folder to start over."
        )
        raise InvalidInput(msg)


def check_faces(plan: Plan, faces: "pa.Array[Any]", sidecar: Path) -> None:
    """Refuse to go on when faces are stated to be elsewhere, or to be somebody else's, than when the run began.

    Args:
        faces: Those of each image of the plan's table, as stated now.

    Raises:
        InvalidInput: Names the images whose faces differ.
    """
    planned = plan.table.column(FACES).to_pylist()
    differing = [
        str(name)
        for name, before, now in zip(plan.table.column("name").to_pylist(), planned, faces.to_pylist(), strict=True)
        if before != now
    ]
    if differing:
        msg = (
            f"the faces of {enumerate_some(differing, NAMED)} are stated otherwise than when the run in {sidecar} "
            f"began; restore the file, choose another destination, or delete that folder to start over."
        )
        raise InvalidInput(msg)


def _listing_changes(planned: pa.Table, listing: pa.Table) -> list[str]:
    before, now = planned.select(ENTRY.names), listing
    if len(before) == len(now) and not len(_differing_rows(before, now)):
        return []
    changes: list[str] = []
    for verb, table, other in (("added", now, before), ("removed", before, now)):
        unknown = pc.invert(pc.is_in(table.column("name"), value_set=whole(other.column("name"))))
        names = [str(name) for name in table.column("name").filter(unknown).to_pylist()]
        if names:
            changes.append(f"{enumerate_some(names, NAMED)} {verb}")
    if changes:
        return changes
    moved = [str(name) for name in before.column("name").take(_differing_rows(before, now)).to_pylist()]
    return [f"{enumerate_some(moved, NAMED)} relabelled or moved"]


def _differing_rows(one: pa.Table, other: pa.Table) -> Rows:
    """Find the rows in which two tables of the same columns and length differ."""
    found = []
    for start in range(0, len(one), ROWS):
        pairs = zip(one.slice(start, ROWS).columns, other.slice(start, ROWS).columns, strict=True)
        unequal = [pc.not_equal(*pair).to_numpy(zero_copy_only=False) for pair in pairs]
        found.append(start + np.flatnonzero(np.any(unequal, axis=0)))
    return np.concatenate(found)


def _content_changes(planned: pa.Table, dataset: Dataset, reporter: Reporter) -> list[str]:
    expected = whole(planned.column("sha256"))
    changed: list[int] = []
    seen = 0
    reporter.start("Checking that the source is unchanged", len(expected), "images")
    for digests in map_ahead(_digests, read_groups(dataset, Entries(planned))):
        same = pc.equal(pa.array(digests, expected.type), expected.slice(seen, len(digests)))
        changed += (seen + np.flatnonzero(~same.to_numpy(zero_copy_only=False))).tolist()
        seen += len(digests)
        reporter.advance(len(digests))
    reporter.finish()
    names = [str(planned.column("name")[row].as_py()) for row in changed]
    return [f"{enumerate_some(names, NAMED)} changed"] if names else []


def _digests(group: list[Stored]) -> list[bytes]:
    refuse_failure(group)
    return [hashlib.sha256(stored).digest() if isinstance(stored, bytes) else bytes(32) for stored in group]
