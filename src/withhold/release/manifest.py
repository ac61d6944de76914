"""The private manifest: which released image came from which original, and what was measured on each pair."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from withhold.data.atomic import write_atomic
from withhold.errors import RunStopped
from withhold.release.engines.batches import Record
from withhold.release.plan import Plan
from withhold.release.sidecar import Sidecar
from withhold.release.stored_plan import table_bytes

_MEASURED_TYPES: Mapping[str, pa.DataType] = {
    "index": pa.int64(),
    "released_sha256": pa.string(),
    "largest_change": pa.float32(),
    "psnr": pa.float32(),
    "ssim": pa.float32(),
    "loss": pa.float32(),
    "alignment": pa.float32(),
    "sign_agreement": pa.float32(),
}
MEASURED = pa.schema(_MEASURED_TYPES)
"""What the record of a finished batch holds of each of its images."""

CHUNK = 4096
"""Values that exist as Python objects at a time."""

PLANNED = ("index", "name", "released_name", "label", "sha256", "batch")


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over a release; None where nothing was measured.

    Attributes:
        psnr: In dB.
        ssim: In [-1, 1].
        loss: Final crafting objective.
        alignment: Final cosine with the direction, as the objective reports it.
        sign_agreement: Fraction of pixels on which joint and decoupled crafting step the same way.
    """

    psnr: float | None
    ssim: float | None
    loss: float | None
    alignment: float | None
    sign_agreement: float | None


def save_record(sidecar: Sidecar, batch: int, record: Record) -> None:
    """Record a finished batch, once its images are stored."""
    arrays = [pa.array(column, field.type) for column, field in zip(record, MEASURED, strict=True)]
    write_atomic(sidecar.record(batch), table_bytes(pa.table(arrays, schema=MEASURED)))


def write_manifest(plan: Plan, sidecar: Sidecar) -> None:
    """Join the plan with the records of all batches, in the dataset's order.

    The columns are name, released_name, label, class, sha256, released_sha256 (of the bytes that the layout stores for
    the image), largest_change (levels of 8 bit), psnr (dB), ssim, loss, alignment, sign_agreement and batch.

    Raises:
        RunStopped: The records do not hold each planned image once.
    """
    records = pa.concat_tables([pq.read_table(sidecar.record(batch)) for batch in range(plan.batches)])
    records = records.sort_by("index")
    planned = plan.kept().select(PLANNED).combine_chunks()
    if not records.column("index").combine_chunks().equals(planned.column("index").combine_chunks()):
        msg = f"the records in {sidecar.batches} do not fit the plan; delete {sidecar.root} to start over."
        raise RunStopped(msg)
    names = pa.array(plan.classes, pa.string()).take(planned.column("label"))
    columns = {
        "name": planned.column("name"),
        "released_name": planned.column("released_name"),
        "label": planned.column("label"),
        "class": names,
        "sha256": _hexadecimal(planned.column("sha256")),
        **{name: records.column(name) for name in MEASURED.names[1:]},
        "batch": planned.column("batch"),
    }
    write_atomic(sidecar.manifest, table_bytes(pa.table(columns)))


def _hexadecimal(digests: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    parts = (digests.slice(start, CHUNK) for start in range(0, len(digests), CHUNK))
    return pa.chunked_array([pa.array([each.as_py().hex() for each in part], pa.string()) for part in parts])


def read_quality(sidecar: Sidecar) -> Quality:
    """Average the measurements of a manifest."""
    table = pq.read_table(sidecar.manifest, columns=["psnr", "ssim", "loss", "alignment", "sign_agreement"])
    return Quality(*(_mean(table.column(name)) for name in table.column_names))


def _mean(column: "pa.ChunkedArray[Any]") -> float | None:
    known = column.filter(pc.is_finite(column))
    return float(pc.mean(known).as_py()) if len(known) else None
