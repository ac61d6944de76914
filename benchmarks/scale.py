"""The driver of a run at sizes that no machine here could craft: planning, dispatch, manifest, resuming. Prints JSON.

    python -m benchmarks.scale driver --images 1300000
    python -m benchmarks.scale driver --images 100000000 --listed 1300000 --recorded 0
    python -m benchmarks.scale cost --throughput 32=100000 224=5000

The planner, the stored plan, the engines and the manifest are those of a real run; the images are named, labelled and
sized, but not there, and crafting them does nothing. Every phase runs in a process of its own, so that each peak of
memory is that of one phase. `cost` measures nothing, it multiplies; see `benchmarks.cost`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks import cost
from benchmarks.synthetic import NoCrafter, NoWork, SyntheticDataset, record_of
from withhold.data.entries import list_entries
from withhold.progress import SILENT
from withhold.release.engines.batches import Engine, batches_of
from withhold.release.engines.local import Local
from withhold.release.engines.options import EngineOptions
from withhold.release.environment import Environment
from withhold.release.manifest import read_quality, save_record, write_manifest
from withhold.release.plan import Plan, make_plan
from withhold.release.scan import scan
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar
from withhold.release.stored_plan import check_source, load_plan, save_plan

MIB = 1 << 20
Timings = dict[str, Any]


def peak_mib() -> int:
    """Give the most memory that this process has had resident, in MiB; `getrusage` would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) // 1024


class Clock:
    """Times the steps of a phase."""

    def __init__(self) -> None:
        self.result: Timings = {"peak_mib_at_start": peak_mib()}

    def step(self, name: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Run a step, and note its seconds and the peak of memory so far."""
        began = time.perf_counter()
        value = work()
        self.result[name] = {"seconds": round(time.perf_counter() - began, 2), "peak_mib": peak_mib()}
        return value


def plan_of(sidecar: Sidecar) -> Plan:
    """Load the plan that an earlier phase stored."""
    return load_plan(sidecar.plan_table, sidecar.plan_document)


def listing(dataset: SyntheticDataset, sidecar: Sidecar, args: argparse.Namespace) -> Timings:  # noqa: ARG001
    """List and scan by the code of a run, at most `args.listed` images."""
    clock = Clock()
    some = SyntheticDataset(min(dataset.images, args.listed))
    clock.step("list", lambda: list_entries(some))
    clock.step("scan", lambda: scan(some, SILENT))
    return clock.result | {"images": some.images}


def planning(dataset: SyntheticDataset, sidecar: Sidecar, args: argparse.Namespace) -> Timings:
    """Plan, and store the plan."""
    clock = Clock()
    scanned = clock.step("columns", dataset.scanned)
    settings = ProtectSettings(batch_size=args.batch_size)
    environment = Environment.here("cpu", 1)
    plan = clock.step("plan", lambda: make_plan(dataset, scanned, settings, None, environment))
    clock.step("save", lambda: save_plan(plan, sidecar.plan_table, sidecar.plan_document))
    columns = {name: round(plan.table.column(name).nbytes / len(plan.table), 2) for name in plan.table.column_names}
    return clock.result | {
        "images": len(plan.table),
        "batches": plan.batches,
        "bytes_per_image": columns | {"all": round(sum(columns.values()), 1)},
        "stored_bytes": sidecar.plan_table.stat().st_size,
    }


def dispatching(dataset: SyntheticDataset, sidecar: Sidecar, args: argparse.Namespace) -> Timings:
    """Work off some batches with every engine."""
    from withhold.release.engines.on_ray import on_ray  # noqa: PLC0415 - an extra

    plan = plan_of(sidecar)
    result: Timings = {"local": worked_off(Local(), plan, dataset, sidecar, args.crafted)}
    for workers in args.workers:
        with on_ray(EngineOptions("ray", workers=workers), [], SILENT) as engine:
            result[f"ray_{workers}"] = worked_off(engine, plan, dataset, sidecar, args.crafted)
    return result | {"peak_mib": peak_mib()}


def worked_off(engine: Engine, plan: Plan, dataset: SyntheticDataset, sidecar: Sidecar, batches: int) -> Timings:
    """Time an engine over batches that take no time, with and without the records on disk.

    The first batch is timed apart: it pays for indexing the plan, and on Ray for starting workers.
    """
    work = NoWork(dataset, None, NoCrafter(), 8, 0, plan.environment, sidecar.root)  # type: ignore[arg-type] # nothing is written
    result: Timings = {}
    for name, finish in (("driver", lambda *_: None), ("with_records", lambda *each: save_record(sidecar, *each))):
        finished: list[float] = []

        def note(number: int, record: Any, finish: Any = finish, finished: Any = finished) -> None:  # noqa: ANN401
            finish(number, record)
            finished.append(time.perf_counter())

        began = time.perf_counter()
        count = min(batches, plan.batches)
        engine.work_off(work, batches_of(plan, range(count)), note, SILENT)
        result[name] = {
            "batches": count,
            "first_seconds": round(finished[0] - began, 2),
            "milliseconds_per_batch": round(1000 * (finished[-1] - finished[0]) / (count - 1), 3),
        }
    sidecar.forget_batches()
    return result


def finishing(dataset: SyntheticDataset, sidecar: Sidecar, args: argparse.Namespace) -> Timings:  # noqa: ARG001
    """Write the manifest from the records of all batches."""
    plan = plan_of(sidecar)
    clock = Clock()
    rows = plan.rows_of_batches()

    def record_all() -> None:
        for number, each in enumerate(rows):
            save_record(sidecar, number, record_of(each.tolist()))

    clock.step("records", record_all)
    records = sum(path.stat().st_size for path in sidecar.batches.iterdir())
    clock.step("manifest", lambda: write_manifest(plan, sidecar))
    clock.step("quality", lambda: read_quality(sidecar))
    size = sidecar.manifest.stat().st_size
    return clock.result | {
        "images": len(plan.table),
        "manifest_bytes": size,
        "manifest_bytes_per_image": round(size / len(plan.table), 1),
        "record_bytes_per_image": round(records / len(plan.table), 1),
    }


def resuming(dataset: SyntheticDataset, sidecar: Sidecar, args: argparse.Namespace) -> Timings:
    """Do what a second start does before it crafts, with the records of half of the batches there."""
    clock = Clock()
    plan = clock.step("load", lambda: plan_of(sidecar))
    sidecar.forget_batches()
    sidecar.batches.mkdir()
    for batch in range(0, plan.batches, 2):
        sidecar.record(batch).touch()
    finished = clock.step("find_finished", sidecar.finished)
    pending = [batch for batch in range(plan.batches) if batch not in finished]
    clock.step("first_batch", lambda: next(batches_of(plan, pending), None))
    if dataset.images <= args.listed:
        clock.step("check_source", lambda: check_source(plan, dataset, sidecar.root, SILENT))
    return clock.result | {"finished": len(finished), "pending": len(pending)}


PHASES: Mapping[str, Callable[[SyntheticDataset, Sidecar, argparse.Namespace], Timings]] = {
    "listing": listing,
    "planning": planning,
    "dispatching": dispatching,
    "finishing": finishing,
    "resuming": resuming,
}


def in_own_process(phase: str, images: int, folder: str, args: argparse.Namespace) -> Timings:
    """Run a phase, and say why if it does not come to its end."""
    options = ["--images", images, "--batch-size", args.batch_size, "--listed", args.listed]
    options += ["--crafted", args.crafted, "--workers", *args.workers, "--folder", folder]
    command = [sys.executable, "-m", "benchmarks.scale", phase, *map(str, options)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["nothing was said"]
        return {"failed": f"exit code {ended.returncode}: {last[0]}"}
    result: Timings = json.loads(ended.stdout)
    return result


def driver(args: argparse.Namespace) -> Timings:
    """Run all phases for every size."""
    sizes = {}
    for images in args.images:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            phases = [name for name in PHASES if name != "finishing" or images <= args.recorded]
            sizes[images] = {name: in_own_process(name, images, folder, args) for name in phases}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "pyarrow": pa.__version__,
        "batch_size": args.batch_size,
        "sizes": sizes,
    }


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["driver", "cost", *PHASES])
    parser.add_argument("--images", type=int, nargs="+", default=[1_300_000])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--listed", type=int, default=1_300_000, help="most images that are listed and scanned")
    parser.add_argument("--recorded", type=int, default=1_300_000, help="most images that a manifest is written of")
    parser.add_argument("--crafted", type=int, default=2000, help="batches that each engine works off")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="on Ray")
    parser.add_argument("--folder", default=None, help="for temporary files")
    cost.add_arguments(parser)
    args = parser.parse_args()
    if args.what == "cost":
        document = cost.document(args)
    elif args.what == "driver":
        document = driver(args)
    else:
        sidecar = Sidecar(Path(args.folder) / "release")
        document = PHASES[args.what](SyntheticDataset(args.images[0]), sidecar, args)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
