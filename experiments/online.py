"""How much each speed of a protector protects, on images that its generator never saw. Appends one JSON line a victim.

    python -m experiments.online --size cpu --data cifar-10-batches-py
    python -m experiments.online --size toy --data cifar-10-batches-py --work /tmp/online

The first images of each class prepare the protector; as many after them are released one by one, and a victim trains
on those and is tested on the clean test set. Finished lines are skipped, and protectors and releases are kept in
--work, so a killed run goes on where it ended. At the end it prints the share of full's drop of accuracy that each
speed keeps.
"""

import argparse
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from experiments.images import Cifar, cifar, likeness, sets_of
from experiments.run import HERE, RESULTS, machine, outcome, stored
from experiments.specification import SIZES, Size
from withhold.data.pixels import Picture
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.results import RELEASED, Cell
from withhold.evaluation.settings import EvaluateSettings
from withhold.evaluation.training import Harness
from withhold.networks.choose import resolve_device
from withhold.online.image import Accepted
from withhold.online.prepare import prepare
from withhold.online.protector import Protector
from withhold.online.settings import SPEEDS, OnlineSettings, SpeedName

ORIGINAL = "original"
LANES = 50
"""Lanes are part of a result's last bits, and no more; one lane would take several times as long for thousands."""

ALL_SIZES: Mapping[str, Size] = {
    "toy": Size(per_class=12, epochs=1, seeds=(0,), judge_per_class=10),
    **{str(name): each for name, each in SIZES.items()},
}
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Release:
    """What is published.

    Attributes:
        speed: None for the originals.
        labelled: Whether the protector is told the labels.
    """

    speed: SpeedName | None
    labelled: bool = True

    @property
    def name(self) -> str:
        """Name it in lines and on the command line."""
        return ORIGINAL if self.speed is None else self.speed + ("" if self.labelled else "-unlabelled")


RELEASES = (Release(None), *(Release(speed, labelled) for labelled in (True, False) for speed in SPEEDS))


def split(data: Path, size: Size) -> tuple[Labelled, Cifar]:
    """Read the images that prepare a protector, and those that are released, with the test images beside them."""
    both = cifar(data, size.model_copy(update={"per_class": 2 * size.per_class}))
    rank = torch.empty(len(both.train), dtype=torch.int64)
    for label in range(len(both.classes)):
        rows = (both.train.labels == label).nonzero().flatten()
        rank[rows] = torch.arange(len(rows))
    return both.train.take(rank < size.per_class), replace(both, train=both.train.take(rank >= size.per_class))


class Platform:
    """Prepares one protector for each seed, and releases images with it."""

    def __init__(self, own: Labelled, new: Cifar, size: Size, settings: OnlineSettings, work: Path) -> None:
        self.own = own
        self.new = new
        self.size = size
        self.settings = settings
        self.work = work
        self._photos = work / f"photos-{_digest({'images': _sha256(own.images)})}"

    def about(self, seed: int) -> dict[str, Any]:
        """Give everything that the released images of a seed depend on, but the key."""
        return {
            "settings": self._settings(seed).model_dump(mode="json", exclude={"device"}),
            "size": self.size.model_dump(mode="json", exclude={"seeds"}),
            "images": [_sha256(self.own.images), _sha256(self.new.train.images)],
        }

    def protector(self, seed: int) -> Protector:
        """Prepare the protector of a seed, or load the kept one."""
        place = self.work / f"protector-{_digest(self.about(seed))}"
        self.work.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):  # another process may be at the same seed
            if not place.exists():
                self._write_photos()
                prepare(self._photos, place, self._settings(seed))
        return Protector.load(place)

    def release(self, release: Release, seed: int) -> tuple[Tensor, dict[str, float]]:
        """Return released images (n, 3, h, w), uint8, with what was measured; protected now or kept from before."""
        clean = self.new.train
        if release.speed is None:
            return clean.images, {}
        protector = self.protector(seed)
        path = self.work / f"release-{_digest({'by': protector.fingerprint, 'release': release.name})}.safetensors"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                images, measures = self._protect(protector, release)
                partial = path.with_suffix(".partial")
                kept = {name: torch.tensor(value, dtype=torch.float64) for name, value in measures.items()}
                save_file({"images": images.contiguous(), **kept}, partial)
                partial.replace(path)
        found = load_file(path)
        images = found.pop("images")
        return images, {name: float(value) for name, value in found.items()}

    def _settings(self, seed: int) -> OnlineSettings:
        chosen = {"seed": seed, "architecture": self.size.network, "epochs": self.size.epochs or None}
        return self.settings.model_copy(update=chosen)

    def _write_photos(self) -> None:
        """Write the images that prepare protectors as class folders."""
        numbered = enumerate(zip(self.own.images.permute(0, 2, 3, 1).numpy(), self.own.labels.tolist(), strict=True))
        for number, (pixels, label) in numbered:
            path = self._photos / self.new.classes[label] / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)

    def _protect(self, protector: Protector, release: Release) -> tuple[Tensor, dict[str, float]]:
        assert release.speed is not None
        clean, began = self.new.train, time.perf_counter()
        images, right, losses, largest = clean.images.clone(), 0, 0.0, 0.0
        for rows in torch.split(torch.arange(len(clean)), CHUNK):
            pictures = [Picture(pixels) for pixels in clean.images[rows].permute(0, 2, 3, 1).numpy()]
            labels = clean.labels[rows].tolist()
            told: Sequence[int | None] = labels if release.labelled else [None] * len(labels)
            accepted = [Accepted(picture, label, "") for picture, label in zip(pictures, told, strict=True)]
            released = protector.protect_accepted(accepted, speed=release.speed)
            for row, each in zip(rows.tolist(), released, strict=True):
                images[row] = torch.from_numpy(each.picture.levels).permute(2, 0, 1)
            right += sum(each.label == self.new.classes[label] for each, label in zip(released, labels, strict=True))
            largest = max(largest, *(each.largest_change for each in released))
            losses += sum(protector.losses([each.picture for each in released], labels))
        measures = {
            "seconds": time.perf_counter() - began,
            "largest_change": largest,
            "objective": losses / len(clean),
            "labels_right": right / len(clean),
        }
        return images, measures


def run(platform: Platform, release: Release, seed: int, device: torch.device) -> dict[str, Any]:
    """Protect (or take the kept) images, train a victim, and return a line of results."""
    images, measures = platform.release(release, seed)
    sets = sets_of(platform.new, images)
    harness = Harness(sets, EvaluateSettings(epochs=platform.size.epochs or None), device)
    result = harness.run(Cell(RELEASED, "none", platform.size.network, seed))
    measures = measures | likeness(platform.new.train.images, images)
    return {
        "release": release.name,
        "seed": seed,
        **outcome(result),
        "about": platform.about(seed),
        "measures": {name: round(value, 4) for name, value in measures.items()},
        "config": result.config,
        "images": len(platform.new.train),
        "judge": platform.size.judge,
        "machine": machine(device),
    }


def kept_shares(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Give the share of full's drop of accuracy that each release keeps, means over the seeds that have all three.

    A victim counts with its best epoch, as a competitor may stop there.
    """
    best: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for line in lines:
        best[line["seed"]][line["release"]] = line["best"]
    whole = [each for each in best.values() if {ORIGINAL, "full"} <= set(each)]
    names = [release.name for release in RELEASES if release.speed is not None]
    shares = {}
    for name in names:
        pairs = [(each[ORIGINAL] - each[name], each[ORIGINAL] - each["full"]) for each in whole if name in each]
        if pairs and (drop := mean(of_full for _, of_full in pairs)) > 0:
            shares[name] = mean(own for own, _ in pairs) / drop
    return shares


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 python batches")
    parser.add_argument("--size", choices=list(ALL_SIZES), default="cpu")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these")
    parser.add_argument("--releases", nargs="+", choices=[release.name for release in RELEASES], help="only these")
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="of prepare, as quick_steps=8")
    parser.add_argument("--work", type=Path, default=HERE / "crafted" / "online", help="protectors and releases")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    device, size = resolve_device(args.device), ALL_SIZES[args.size]
    chosen = dict(pair.split("=", 1) for pair in args.set)
    settings = OnlineSettings.model_validate({"device": device.type, "lanes": LANES, **chosen})
    platform = Platform(*split(args.data, size), size, settings, args.work)
    path = args.results / f"online.{args.size}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [line for line in stored(path) if line["about"] == platform.about(line["seed"])]
    finished = {(line["release"], line["seed"]) for line in known}
    for seed in args.seeds or size.seeds:
        for release in RELEASES:
            if (release.name, seed) in finished or (args.releases and release.name not in args.releases):
                continue
            line = run(platform, release, seed, device)
            known.append(line)
            with path.open("a") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            print(f"{release.name}, seed {seed}: {line['last']} % (best {line['best']} %)", flush=True)
    for name, share in kept_shares(known).items():
        print(f"{name} keeps {100 * share:.0f} % of full's drop")


def _sha256(images: Tensor) -> str:
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]


if __name__ == "__main__":
    main()
