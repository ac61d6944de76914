"""Run experiments on faces and append their results, one JSON line for each recogniser.

    python -m experiments.faces.run identities --data lfw
    python -m experiments.faces.run all --size gpu --device cuda --data lfw

The data are a folder with train/ and test/, pictures of the same people by identity, and pairs.csv, pairs of other
people. Releases are crafted by `protect` and recognisers trained by `evaluate --task faces`, in folders below --work;
both go on where a killed run ended.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.faces.specification import ORIGINALS, SIZES, FaceExperiment, FaceSize, FaceUnit, read, units
from experiments.run import RESULTS, machine, stored
from withhold.evaluation.faces.results import FaceAttempt
from withhold.evaluation.faces.run import evaluate_faces
from withhold.evaluation.faces.scenarios.table import find
from withhold.evaluation.faces.settings import FaceSettings
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED
from withhold.networks.choose import resolve_device
from withhold.release.run import protect

HERE = Path(__file__).parent
WORK = HERE.parent / "crafted" / "faces"


@dataclass(frozen=True, slots=True)
class FaceBench:
    """What the units of one experiment share."""

    experiment: FaceExperiment
    size: FaceSize
    data: Path
    work: Path
    device: str

    def run(self, unit: FaceUnit) -> list[dict[str, Any]]:
        """Craft the release (or take the kept one), train recognisers on it and on the controls, and return lines."""
        settings = self.experiment.settings(unit.release, self.size, unit.seed, self.device)
        released = self.work / hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]
        protect(self.data / "train", released, settings)
        evaluation = evaluate_faces(
            self.data / "train",
            released,
            self.data / "test",
            self.work / f"evaluation-seed{unit.seed}",
            FaceSettings(
                scenarios=(unit.trial.scenario,),
                heads=(unit.trial.head,),
                network=unit.trial.network or self.size.network,
                epochs=self.size.epochs or None,
                seed=unit.seed,
                pictures=0,
                device=self.device,
            ),
            pairs=self.data / "pairs.csv",
        )
        controls = {
            ORIGINAL: ORIGINALS,
            NOISE: f"random noise, {evaluation.data['largest change in levels']}/255",
        }
        return [
            {
                **key(unit, self.size),
                "release": controls.get(attempt.material, unit.release.name),
                **measures(attempt),
                "about": self.about(unit, control=attempt.material in controls),
                "pictures": evaluation.data["training pictures"],
                "machine": machine(torch.device(self.device)),
            }
            for attempt in evaluation.attempts
        ]

    def about(self, unit: FaceUnit, *, control: bool) -> dict[str, Any]:
        """Give what a line depends on besides its name; it is only as good as this is still what the file says."""
        epochs = {"epochs": self.size.epochs}
        if control:
            return epochs
        return epochs | self.experiment.settings(unit.release, self.size, unit.seed, "auto").model_dump(mode="json")


def key(unit: FaceUnit, size: FaceSize) -> dict[str, Any]:
    """Name a unit among the lines of its experiment."""
    network = unit.trial.network or size.network
    return {
        "release": unit.release.name,
        "scenario": unit.trial.scenario,
        "head": unit.trial.head,
        "network": network,
        "seed": unit.seed,
    }


def measures(attempt: FaceAttempt) -> dict[str, Any]:
    """Give what the one recogniser of an attempt reached, rates in [0, 1]."""
    (result,) = attempt.results
    own, clean, pairs = result.identification, result.clean_gallery, result.verification
    return {
        "rank1": own and own.rank1,
        "rank5": own and own.rank5,
        "best": result.best,
        "clean_gallery_rank1": clean and clean.rank1,
        "crowd": own and own.crowd,
        "identities": result.identities,
        "accuracy": pairs and pairs.accuracy,
        "auc": pairs and pairs.auc,
        "eer": pairs and pairs.eer,
        "curve": result.curve,
        "seconds": result.seconds,
        "diverged": result.diverged,
    }


def finished(lines: list[dict[str, Any]], bench: FaceBench, unit: FaceUnit) -> bool:
    """Tell whether lines answer a unit: its control on the originals, and its release where the scenario has one."""
    released = RELEASED in find(unit.trial.scenario).materials
    wanted = [{**key(unit, bench.size), "release": ORIGINALS, "about": bench.about(unit, control=True)}]
    wanted += [{**key(unit, bench.size), "about": bench.about(unit, control=False)}] if released else []
    return all(any(each.items() <= line.items() for line in map(hashable, lines)) for each in map(hashable, wanted))


def hashable(line: dict[str, Any]) -> dict[str, str]:
    """Write the values of a line as text, so that lines can be compared as sets."""
    return {name: json.dumps(value, sort_keys=True) for name, value in line.items()}


def fresh(lines: list[dict[str, Any]], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out lines that are there already: the controls of a trial are the same for every release."""
    there = [(told_apart(line), line["about"]) for line in known]
    return [line for line in lines if (told_apart(line), line["about"]) not in there]


def told_apart(line: dict[str, Any]) -> tuple[Any, ...]:
    """Give what names a line."""
    return tuple(line[name] for name in ("release", "scenario", "head", "network", "seed"))


def main() -> None:
    """Run what is missing."""
    names = sorted(path.stem for path in HERE.glob("*.toml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", choices=[*names, "all"])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, test/ and pairs.csv")
    parser.add_argument("--size", choices=list(SIZES), default="cpu")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these; several processes can have different ones")
    parser.add_argument("--releases", nargs="+", help="only these")
    parser.add_argument("--work", type=Path, default=WORK, help="crafted releases and trained recognisers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    device = str(resolve_device(args.device))
    for name in names if "all" in args.experiments else args.experiments:
        experiment = read(HERE / f"{name}.toml")
        bench = FaceBench(experiment, experiment.size(args.size), args.data, args.work / args.size, device)
        path = args.results / f"faces-{name}.{args.size}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        for unit in units(experiment, bench.size):
            known = stored(path)
            here = (args.seeds is None or unit.seed in args.seeds) and (
                args.releases is None or unit.release.name in args.releases
            )
            if not here or finished(known, bench, unit):
                continue
            for line in fresh(bench.run(unit), known):
                with path.open("a") as file:
                    file.write(json.dumps(line, allow_nan=False) + "\n")
                print(f"{name}: {line['release']}, {line['scenario']}, {line['head']}: rank-1 {line['rank1']}")


if __name__ == "__main__":
    main()
