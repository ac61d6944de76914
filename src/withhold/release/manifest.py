"""The private manifest: which released image came from which original, and what was measured on each pair."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from withhold.data.atomic import atomic_file, write_atomic
from withhold.data.entries import Rows
from withhold.errors import RunStopped
from withhold.release.engines.batches import Record
from withhold.release.plan import SKIPPED, Plan
from withhold.release.sidecar import Sidecar

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

_MANIFEST_TYPES: Mapping[str, pa.DataType] = {
    "name": pa.string(),
    "released_name": pa.string(),
    "label": pa.int32(),
    "class": pa.string(),
    "sha256": pa.string(),
    **{name: kind for name, kind in _MEASURED_TYPES.items() if name != "index"},
    "batch": pa.int32(),
}
MANIFEST = pa.schema(_MANIFEST_TYPES)

ROWS = 1 << 18
"""Images of a row group."""

DIGEST_BYTES = 32
NUMBERS = ("largest_change", "psnr", "ssim", "loss", "alignment", "sign_agreement")
_KEPT = np.dtype([("released_sha256", np.uint8, (DIGEST_BYTES,)), *((name, np.float32) for name in NUMBERS)])
"""Of each image, while the records of all batches are brought into the dataset's order: 56 bytes."""


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
    stored = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, schema=MEASURED), stored, compression="zstd")
    write_atomic(sidecar.record(batch), stored.getvalue().to_pybytes())


def write_manifest(plan: Plan, sidecar: Sidecar) -> None:
    """Join the plan with the records of all batches, in the dataset's order.

    The columns are name, released_name, label, class, sha256, released_sha256 (of the bytes that the layout stores for
    the image), largest_change (levels of 8 bit), psnr (dB), ssim, loss, alignment, sign_agreement and batch.

    Raises:
        RunStopped: The records do not hold each planned image once.
    """
    batch = plan.table.column("batch").to_numpy()
    measured = _measured(plan, sidecar)
    with atomic_file(sidecar.manifest) as file, pq.ParquetWriter(file, MANIFEST, compression="zstd") as writer:
        for start in range(0, len(plan.table), ROWS):
            rows = start + np.flatnonzero(batch[start : start + ROWS] != SKIPPED)
            if len(rows):
                writer.write_table(_joined(plan, rows, measured[rows]))


def _measured(plan: Plan, sidecar: Sidecar) -> npt.NDArray[np.void]:
    """Read the records of all batches: what was measured of each row of the plan, as `_KEPT`.

    Raises:
        RunStopped: The record of a batch does not hold its images.
    """
    measured = np.zeros(len(plan.table), _KEPT)
    for batch, rows in enumerate(plan.rows_of_batches()):
        with pq.ParquetFile(sidecar.record(batch)) as file:  # in half the time of `read_table`
            record = file.read()
        if not np.array_equal(record.column("index").to_numpy(), rows):
            msg = f"the records in {sidecar.batches} do not fit the plan; delete {sidecar.root} to start over."
            raise RunStopped(msg)
        digests = bytes.fromhex("".join(map(str, record.column("released_sha256").to_pylist())))
        measured["released_sha256"][rows] = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
        for name in NUMBERS:
            measured[name][rows] = record.column(name).to_numpy()
    return measured


def _joined(plan: Plan, rows: Rows, measured: npt.NDArray[np.void]) -> pa.Table:
    """Join plan and measurements of some images."""
    columns = ["name", "released_name", "label", "sha256", "batch"]
    planned = {name: plan.table.column(name).take(rows) for name in columns}
    digests = np.frombuffer(b"".join(bytes(each or b"") for each in planned["sha256"].to_pylist()), np.uint8)
    found = {
        **planned,
        "class": pa.array(plan.classes, pa.string()).take(planned["label"]),
        "sha256": _hexadecimal(digests),
        "released_sha256": _hexadecimal(measured["released_sha256"]),
        **{name: pa.array(np.ascontiguousarray(measured[name])) for name in NUMBERS},
        "sign_agreement": pa.array(measured["sign_agreement"], from_pandas=True),  # NaN was stored as nothing
    }
    return pa.table([found[name] for name in MANIFEST.names], MANIFEST.names).cast(MANIFEST)


def _hexadecimal(digests: npt.NDArray[np.uint8]) -> "pa.Array[Any]":
    text = digests.tobytes().hex().encode()
    ends = np.arange(0, len(text) + 1, 2 * DIGEST_BYTES, dtype=np.int32)
    return pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends.data), pa.py_buffer(text))


def read_quality(sidecar: Sidecar) -> Quality:
    """Average the measurements of a manifest."""
    table = pq.read_table(sidecar.manifest, columns=["psnr", "ssim", "loss", "alignment", "sign_agreement"])
    return Quality(*(_mean(table.column(name)) for name in table.column_names))


def _mean(column: "pa.ChunkedArray[Any]") -> float | None:
    known = column.filter(pc.is_finite(column))
    return float(pc.mean(known).as_py()) if len(known) else None
