"""One set protected by each engine: overhead of Ray, and efficiency of two workers against one. Prints JSON.

    python -m benchmarks.engines --data cifar-10-batches-py --images 10000 --steps 20

Every run is a process of its own, and each process that crafts has one thread. The surrogate is an untrained ResNet-9:
time does not depend on what it has learned. All releases are compared; they must have the same bytes.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.protect import subset
from withhold.networks.table import build
from withhold.progress import SILENT
from withhold.release.engines.batches import Engine
from withhold.release.engines.local import Local
from withhold.release.engines.options import EngineOptions
from withhold.release.engines.processes import Processes
from withhold.release.run import protect
from withhold.release.settings import ProtectSettings

ENGINES = ("local", "ray-1", "ray-2", "processes-2")


@contextmanager
def opened(name: str) -> Iterator[Engine]:
    """Open an engine by its name here: its kind, and how many workers it has."""
    kind, _, count = name.partition("-")
    if kind == "local":
        yield Local()
    elif kind == "processes":
        yield Processes(["cpu"] * int(count))
    else:
        from withhold.release.engines.on_ray import on_ray  # noqa: PLC0415 - an extra

        with on_ray(EngineOptions("ray", workers=int(count)), [], SILENT) as engine:
            yield engine


def protect_once(name: str, source: Path, work: Path, steps: int) -> dict[str, Any]:
    """Protect a set with one engine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build("resnet9", 10, input_size=32)
    settings = ProtectSettings(steps=steps, device="cpu")
    began = time.monotonic()
    with opened(name) as engine:
        report = protect(source, work / "released", settings, surrogate=network.eval(), engine=engine)
    digest = hashlib.sha256()
    for path in sorted((work / "released").rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return {
        "engine": name,
        "seconds": round(time.monotonic() - began, 1),
        "working_seconds": round(report.working_seconds, 1),
        "crafting_seconds": round(report.crafting_seconds, 1),
        "images_per_second": round(report.images / report.working_seconds, 2),
        "sha256": digest.hexdigest(),
    }


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 python batches")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--engines", nargs="+", default=ENGINES)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            print(
                json.dumps(protect_once(args.once, subset(args.data, args.images, work / "source"), work, args.steps))
            )
        return
    command = [sys.executable, "-m", "benchmarks.engines", "--data", str(args.data)]
    command += ["--images", str(args.images), "--steps", str(args.steps), "--once"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = []
    for _ in range(args.repeat):
        for name in args.engines:  # one after the other, so that what slows the machine down slows them all
            done = subprocess.run([*command, name], check=True, capture_output=True, text=True, env=environment)
            runs.append(json.loads(done.stdout))
            print(json.dumps(runs[-1]), file=sys.stderr)
    rate = {
        name: max(run["images_per_second"] for run in runs if run["engine"] == name)
        for name in dict.fromkeys(run["engine"] for run in runs)
    }
    document: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a process",
        "torch": torch.__version__,
        "images": args.images,
        "steps": args.steps,
        "runs": runs,
        "equal_bytes": len({run["sha256"] for run in runs}) == 1,
    }
    if {"local", "ray-1"} <= rate.keys():
        document["overhead_of_ray"] = round(rate["local"] / rate["ray-1"] - 1, 4)
    if {"ray-1", "ray-2"} <= rate.keys():
        document["efficiency_of_two_workers"] = round(rate["ray-2"] / rate["ray-1"] / 2, 4)
    if {"local", "processes-2"} <= rate.keys():
        document["efficiency_of_two_processes"] = round(rate["processes-2"] / rate["local"] / 2, 4)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
