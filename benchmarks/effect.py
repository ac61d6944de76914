"""What a competitor gets: accuracy on clean test images after training on released ones. Prints one JSON line per cell.

    python benchmarks/effect.py --data cifar-10-batches-py --seeds 0 1 2 --output effect.jsonl

A cell is a method and a seed. Finished cells in the output are skipped, so a killed run goes on where it ended.
The surrogate and the victim of a seed are initialised and trained with different random draws.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import withhold
from withhold.data.open import open_dataset
from withhold.data.pixels import Picture, levels
from withhold.networks.table import build
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import EpochResult, Recipe, accuracy, train
from withhold.release.crafter import Labelled, prepare_crafter
from withhold.release.settings import ProtectSettings
from withhold.seeds import derive_seed

Settings = dict[str, Any]
MakeSurrogates = Callable[[int, int], Sequence[nn.Module]]
ALIGNMENT: Settings = {"objective": "alignment", "steps": 15, "step_size": 0.25}
METHODS: dict[str, Settings | None] = {
    "clean": None,
    "noise": {},
    "class-targeted": {"objective": "class-targeted", "steps": 40},
    "alignment-dataset-joint": ALIGNMENT | {"direction": "dataset"},
    "alignment-batch-joint": ALIGNMENT | {"direction": "batch"},
    "alignment-class-joint": ALIGNMENT | {"direction": "class"},
    "alignment-dataset-decoupled": ALIGNMENT | {"direction": "dataset", "form": "decoupled"},
    "alignment-class-decoupled": ALIGNMENT | {"direction": "class", "form": "decoupled"},
    "alignment-batch-joint-40-steps": ALIGNMENT | {"direction": "batch", "steps": 40},
    "class-targeted-15-steps": {"objective": "class-targeted", "steps": 15, "step_size": 0.25},
    "class-targeted-linear": {"steps": 40, "step_size": 0.25, "schedule": "linear"},
    "class-targeted-no-views": {"steps": 40, "augment": "none"},
    "class-targeted-subpixel": {"steps": 40, "augment": "subpixel"},
    "class-targeted-3-snapshots": {"steps": 40, "snapshots": 3},
    "class-targeted-adam": {"steps": 40, "optimizer": "adam"},
}


@dataclass(frozen=True)
class Split:
    """Pictures with their labels; `images` are the same pictures as uint8 (n, 3, 32, 32)."""

    pictures: Sequence[Picture]
    labels: Tensor
    images: Tensor


def load(data: Path, split: str, per_class: int, skip: int = 0) -> Split:
    """Read `per_class` images of each class, after the first `skip` of it."""
    dataset = open_dataset(data, splits=(split,))
    seen = dict.fromkeys(range(len(dataset.classes)), 0)
    chosen = []
    for entry in dataset.entries():
        if skip <= seen[entry.label] < skip + per_class:
            chosen.append(entry)
        seen[entry.label] += 1
    pictures = [dataset.decode(stored) for stored in dataset.read(chosen)]
    images = torch.from_numpy(np.stack([picture.levels for picture in pictures])).permute(0, 3, 1, 2)
    return Split(pictures, torch.tensor([entry.label for entry in chosen]), images)


def trained(
    images: Tensor, labels: Tensor, recipe: Recipe, seed: int, *, snapshots: int = 1, test: Split | None = None
) -> tuple[Sequence[nn.Module], list[float]]:
    """Train a ResNet-9; return it (or its snapshots) and its accuracy on clean test images after each epoch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network = build("resnet9", 10, input_size=32)
    curve: list[float] = []

    def measure(_: EpochResult) -> None:
        if test is not None:
            network.eval()
            curve.append(round(100 * accuracy(network, test.images, test.labels), 2))

    data = TensorData(images, labels, 10)
    result = train(network, data, recipe, seed=seed, device=torch.device("cpu"), on_epoch=measure, snapshots=snapshots)
    networks = []
    for weights in result.snapshots:
        member = build("resnet9", 10, input_size=32)
        member.load_state_dict(weights)
        networks.append(member.eval())
    return networks, curve


@cache
def surrogates(data: Path, per_class: int, recipe: Recipe, seed: int, snapshots: int) -> Sequence[nn.Module]:
    """Train the surrogates of a seed, once for all methods."""
    clean = load(data, "train", per_class)
    return trained(clean.images, clean.labels, recipe, derive_seed(seed, "surrogate"), snapshots=snapshots)[0]


def released(
    clean: Split, method: Settings | None, make_surrogates: MakeSurrogates, seed: int
) -> tuple[Tensor, dict[str, float]]:
    """Return what the owner publishes under a method, with the seconds and the measures of crafting."""
    if method is None:
        return clean.images, {}
    if not method:
        generator = np.random.default_rng(derive_seed(seed, "noise"))
        bound = levels(ProtectSettings().eps)
        noise = generator.choice([-bound, bound], size=tuple(clean.images.shape))
        noisy = (clean.images.to(torch.int32) + torch.from_numpy(noise)).clamp(0, 255)
        return noisy.to(torch.uint8), {}
    settings = ProtectSettings(**method)
    networks = make_surrogates(seed, settings.snapshots)
    order = torch.randperm(len(clean.labels), generator=torch.Generator().manual_seed(derive_seed(seed, "batches")))

    def labelled(key: int) -> Iterator[Labelled]:
        wanted = [i for i in range(len(clean.labels)) if key < 0 or clean.labels[i] == key]
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            yield [clean.pictures[i] for i in part], clean.labels[part].tolist()

    began = time.perf_counter()
    crafter = prepare_crafter(networks, settings, labelled, present=range(10))
    images = clean.images.clone()
    alignments: list[float] = []
    agreements: list[float] = []
    for number, chosen in enumerate(torch.split(order, settings.batch_size)):
        pictures = [clean.pictures[i] for i in chosen.tolist()]
        crafted = crafter(pictures, clean.labels[chosen].tolist(), derive_seed(seed, "craft", number))
        alignments += crafted.alignments
        agreements += [crafted.sign_agreement] if crafted.sign_agreement is not None else []
        for index, picture, delta in zip(chosen.tolist(), pictures, crafted.deltas, strict=True):
            images[index] = torch.from_numpy(picture.perturbed(delta, levels(settings.eps)).levels).permute(2, 0, 1)
    measures = {
        "crafting_seconds": round(time.perf_counter() - began, 1),
        "alignment": round(float(np.mean(alignments)), 4),
        "surrogate_accuracy_on_released": round(100 * accuracy(networks[-1], images, clean.labels), 2),
    }
    if agreements:
        measures["sign_agreement"] = round(float(np.mean(agreements)), 4)
    return images, measures


def run_cell(
    name: str, seed: int, clean: Split, test: Split, recipe: Recipe, make_surrogates: MakeSurrogates
) -> dict[str, Any]:
    """Release under one method, train one victim, and report."""
    began = time.perf_counter()
    images, measures = released(clean, METHODS[name], make_surrogates, seed)
    largest = int((images.int() - clean.images.int()).abs().max())
    _, curve = trained(images, clean.labels, recipe, derive_seed(seed, "victim"), test=test)
    return {
        "method": name,
        "seed": seed,
        "settings": METHODS[name],
        "largest_change_in_levels": largest,
        "last": curve[-1],
        "best": max(curve),
        "curve": curve,
        **measures,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Run every cell that the output does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 python batches")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines; finished cells are skipped")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--per-class", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--judge", choices=["test", "validation"], default="test", help="validation: 500 per class")
    args = parser.parse_args()
    clean = load(args.data, "train", args.per_class)
    test = load(args.data, "test", 1000) if args.judge == "test" else load(args.data, "train", 500, args.per_class)
    recipe = Recipe(epochs=args.epochs)
    make_surrogates = partial(surrogates, args.data, args.per_class, recipe)
    about = {
        "judge": args.judge,
        "images": len(clean.labels),
        "eps": "8/255",
        "recipe": f"{recipe}",
        "network": "resnet9",
        "versions": {"withhold": withhold.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
    }
    lines = args.output.read_text().splitlines() if args.output.exists() else []
    done = {(line["method"], line["seed"], line["judge"]) for line in map(json.loads, lines)}
    for seed in args.seeds:
        for method in args.methods:
            if (method, seed, args.judge) in done:
                continue
            line = json.dumps(run_cell(method, seed, clean, test, recipe, make_surrogates) | about)
            with args.output.open("a") as output:
                output.write(line + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
