"""Run experiments and append their results, one JSON line for each victim.

    python -m experiments.run strength --data cifar-10-batches-py
    python -m experiments.run all --size small --data cifar-10-batches-py
    python -m experiments.run all --size gpu --device cuda --data cifar-10-batches-py

Finished lines are skipped, so a killed run goes on where it ended. Crafted releases are kept in --work. Different
experiments may run side by side.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

import withhold
from experiments.images import Cifar, Owner, cifar, likeness, sets_of
from experiments.specification import Experiment, Release, Size, SizeName, Unit, read, units
from withhold.evaluation.lpips import Lpips
from withhold.evaluation.results import RELEASED, Cell, CellResult
from withhold.evaluation.settings import EvaluateSettings
from withhold.evaluation.training import Harness
from withhold.networks.choose import resolve_device

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What the units of one experiment share."""

    experiment: Experiment
    size: Size
    clean: Cifar
    owner: Owner
    device: torch.device
    lpips: Lpips | None = None

    def run(self, unit: Unit) -> dict[str, Any]:
        """Craft (or take the kept) release, train one victim, and return a line of results."""
        settings = self.experiment.settings(unit.release)
        released = self.owner.release(unit.release, settings, unit.seed)
        evaluation = EvaluateSettings(epochs=self.size.epochs or None)
        harness = Harness(sets_of(self.clean, released.images), evaluation, self.device)
        network = unit.trial.network or self.size.network
        result = harness.run(Cell(RELEASED, unit.trial.countermeasure, network, unit.seed))
        measures = released.measures
        if self.experiment.columns == "measures":
            measures = measures | likeness(self.clean.train.images, released.images, self.lpips)
        return {
            **key(unit, self.size),
            **outcome(result),
            "about": about(self.experiment, unit.release, self.size),
            "settings": None if settings is None else settings.model_dump(mode="json"),
            "measures": {name: round(value, 4) for name, value in measures.items()},
            "config": result.config,
            "images": len(self.clean.train),
            "judge": self.size.judge,
            "machine": machine(self.device),
        }


def key(unit: Unit, size: Size) -> dict[str, Any]:
    """Name a unit among the lines of its experiment."""
    return {
        "release": unit.release.name,
        "countermeasure": unit.trial.countermeasure,
        "network": unit.trial.network or size.network,
        "seed": unit.seed,
    }


def about(experiment: Experiment, release: Release, size: Size) -> dict[str, Any]:
    """Give what a release and its victims are made with; a line is only as good as this is still what the file says."""
    chosen = {**experiment.protect, **release.settings} if release.kind == "protected" else None
    return {
        "protect": chosen,
        **release.model_dump(mode="json", exclude={"name", "settings", "sizes", "countermeasures", "small"}),
        "size": size.model_dump(mode="json", exclude={"seeds"}),
    }


def valid(line: dict[str, Any], experiment: Experiment, size: Size) -> bool:
    """Tell whether a line answers what the experiment asks now; lines of an earlier script say where they come from."""
    releases = {release.name: release for release in experiment.releases}
    if line["release"] not in releases:
        return False
    return "origin" in line or line["about"] == about(experiment, releases[line["release"]], size)


def outcome(result: CellResult) -> dict[str, Any]:
    """Give what a victim reached, accuracies in percent."""
    return {
        "last": round(100 * result.final, 2),
        "best": round(100 * result.best, 2),
        "curve": [round(100 * each, 2) for each in result.curve],
        "per_class": [None if each is None else round(100 * each, 2) for each in result.per_class],
        "facts": result.facts,
        "diverged": result.diverged,
        "seconds": result.seconds,
    }


def machine(device: torch.device) -> dict[str, str]:
    """Name the machine and the versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"
    return {
        "device": f"{platform.machine()}, {name}",
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "withhold": withhold.__version__,
        "python": platform.python_version(),
    }


def stored(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file of results; half a last line, left by a kill, is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def finished(lines: Sequence[dict[str, Any]], experiment: Experiment, size: Size) -> set[tuple[Any, ...]]:
    """List the units that valid lines hold."""
    some = (line for line in lines if valid(line, experiment, size))
    return {(line["release"], line["countermeasure"], line["network"], line["seed"]) for line in some}


def main() -> None:
    """Run what is missing."""
    names = sorted(path.stem for path in HERE.glob("*.toml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", choices=[*names, "all"])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 python batches")
    parser.add_argument("--size", choices=get_args(SizeName), default="cpu")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these")
    parser.add_argument("--releases", nargs="+", help="only these, so that several processes can share an experiment")
    parser.add_argument("--work", type=Path, default=HERE / "crafted", help="crafted releases")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--lpips", type=Path, help="weights, to measure LPIPS too; see withhold evaluate --help")
    args = parser.parse_args()
    lpips = Lpips.load(args.lpips) if args.lpips else None
    device = resolve_device(args.device)
    for name in names if "all" in args.experiments else args.experiments:
        experiment = read(HERE / f"{name}.toml")
        size = experiment.size(args.size)
        path = args.results / f"{name}.{args.size}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        known = finished(stored(path), experiment, size)
        wanted = [
            unit
            for unit in units(experiment, args.size)
            if (args.seeds is None or unit.seed in args.seeds)
            and (args.releases is None or unit.release.name in args.releases)
        ]
        missing = [unit for unit in wanted if tuple(key(unit, size).values()) not in known]
        if not missing:
            continue
        clean = cifar(args.data, size)
        bench = Bench(experiment, size, clean, Owner(clean, size, device, args.work), device, lpips)
        for unit in missing:
            line = bench.run(unit)
            with path.open("a") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            print(f"{name}: {', '.join(map(str, key(unit, size).values()))}: {line['last']} % (best {line['best']} %)")


if __name__ == "__main__":
    main()
