"""A whole `protect` run: the share of its time spent crafting, and its memory against the size of the set. Prints JSON.

    python benchmarks/protect.py overhead --data cifar-10-batches-py --images 10000 --steps 40
    python benchmarks/protect.py memory --data cifar-10-batches-py --sizes 5000 50000 --steps 2

Both take an untrained ResNet-9 as the surrogate: time and memory do not depend on what it has learned.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from withhold.data.cifar_pickle import dump, load
from withhold.networks.table import build
from withhold.release.run import protect
from withhold.release.settings import ProtectSettings


def subset(data: Path, images: int, to: Path) -> Path:
    """Write the first `images` training images of CIFAR-10 in the official layout."""
    folder = to / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes((data / "batches.meta").read_bytes())
    for number in range(1, 6):
        name = f"data_batch_{number}"
        left = images - 10_000 * (number - 1)
        if left <= 0:
            break
        content = load(data / name)
        with (folder / name).open("wb") as file:
            dump({key: cut(value, left) for key, value in content.items()}, file)
    return folder


def cut(value: Any, count: int) -> Any:  # noqa: ANN401 - a pickle's values
    """Shorten what has one element per image."""
    return value[:count] if hasattr(value, "__len__") and len(value) == 10_000 else value


def protect_once(source: Path, work: Path, steps: int) -> dict[str, Any]:
    """Protect a set with a given surrogate and report times and peak memory of this process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build("resnet9", 10, input_size=32)
    report = protect(source, work / "released", ProtectSettings(steps=steps), surrogate=network.eval())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "images": report.images,
        "steps": steps,
        "seconds": round(report.seconds, 1),
        "crafting_seconds": round(report.crafting_seconds, 1),
        "share_of_run_spent_crafting": round(report.crafting_seconds / report.seconds, 4),
        "share_of_working_phase_spent_crafting": round(report.crafting_seconds / report.working_seconds, 4),
        "verified": report.verification.passed,
        "peak_rss_mib": round(peak, 1),
    }


def in_own_process(data: Path, images: int, steps: int, repeat: int) -> list[dict[str, Any]]:
    """Run in fresh processes, so that each peak is that of one size alone."""
    results = []
    for _ in range(repeat):
        command = [sys.executable, __file__, "once", "--data", str(data), "--sizes", str(images), "--steps", str(steps)]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return results


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "memory", "once"])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 python batches")
    parser.add_argument("--sizes", type=int, nargs="+", default=None)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--repeat", type=int, default=1)
    args = parser.parse_args()
    sizes = args.sizes or ([10_000] if args.what == "overhead" else [5_000, 50_000])
    steps = args.steps or (40 if args.what == "overhead" else 2)
    if args.what == "once":
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            print(json.dumps(protect_once(subset(args.data, sizes[0], work / "source"), work, steps)))
        return
    runs = {size: in_own_process(args.data, size, steps, args.repeat) for size in sizes}
    document: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "runs": runs,
    }
    if args.what == "memory":
        least, most = (min(run["peak_rss_mib"] for run in runs[size]) for size in (min(sizes), max(sizes)))
        document["peak_growth"] = round(most / least - 1, 4)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
