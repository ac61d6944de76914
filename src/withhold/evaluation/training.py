"""One cell: a competitor trains one network on one material under one countermeasure and is tested on clean images."""

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor, Labelled
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.table import find
from withhold.evaluation.images import Sets
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED, Cell, CellResult
from withhold.evaluation.settings import EvaluateSettings
from withhold.networks.head import train_head_only
from withhold.networks.recipe import Recipe, recipe_for, reference_recipe
from withhold.networks.table import build, of_library
from withhold.networks.training import Diverged, EpochResult, as_unit
from withhold.seeds import derive_seed
from withhold.version import __version__

TESTED = 500
"""Test images predicted at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Harness:
    """What all cells of an evaluation share."""

    sets: Sets
    settings: EvaluateSettings
    device: torch.device

    def run(self, cell: Cell) -> CellResult:
        """Train and test one cell; a training that diverges is a result too."""
        began = time.monotonic()
        countermeasure = find(cell.countermeasure)
        material, clean = self._material(cell, countermeasure)
        watch = _Watch(self.sets.test, len(self.sets.classes))
        competitor = self._competitor(cell, len(material), clean, watch)
        diverged = None
        try:
            watch.test(countermeasure(material.images, material.labels, competitor).eval())
        except Diverged as error:
            diverged = str(error)
        return CellResult(
            cell=cell,
            config=self.config(cell),
            curve=tuple(watch.curve),
            final=watch.final,
            per_class=watch.per_class,
            losses=tuple(watch.losses),
            facts={name: _finite(value) for name, value in competitor.facts.items()},
            seconds=round(time.monotonic() - began, 1),
            environment=environment(self.device),
            diverged=diverged,
        )

    def config(self, cell: Cell) -> dict[str, Any]:
        """Give everything that the cell's outcome depends on, as plain JSON values."""
        countermeasure = find(cell.countermeasure)
        kind = cell.material.partition("-")[0]
        used = {ORIGINAL: ["original"], NOISE: ["noise"], "rest": ["original"]}.get(kind, ["released"])
        used += ["original"] if cell.material.startswith(f"{RELEASED}-") else []
        used += ["clean" if len(self.sets.clean) else "original"] if countermeasure.clean_images else []
        drawn = bool(countermeasure.clean_images) or cell.material not in {ORIGINAL, NOISE, RELEASED}
        return {
            "cell": asdict(cell),
            "countermeasure": {"kind": type(countermeasure).__name__, **_plain(asdict(countermeasure))},  # type: ignore[call-overload]
            "recipe": asdict(self.recipe(cell.network, self.images_of(cell))),
            "trained": self.settings.trained,
            "input_size": self.sets.side,
            "data": {name: self.sets.digests[name] for name in sorted({*used, "test"})},
            "drawn": self.settings.seed if drawn else None,
            "device": self.device.type,
            "compiled": self.settings.compiled,
            "withhold": __version__,
            "torch": torch.__version__,
        }

    def images_of(self, cell: Cell) -> int:
        """Count the images that a cell's competitor gets, on which the recipe's epochs depend."""
        count = len(self.sets.original)
        kind, _, share = cell.material.partition("-")
        if kind == "rest":
            return count - _protected(count, share)
        own = 0 if len(self.sets.clean) else find(cell.countermeasure).clean_images
        return count - own

    def recipe(self, network: str, images: int) -> Recipe:
        """Choose the recipe for a network and a number of training images."""
        settings = self.settings
        if settings.recipe == "reference":
            return reference_recipe(settings.epochs) if settings.epochs else reference_recipe()
        return recipe_for(network, images, epochs=settings.epochs, pretrained=of_library(network))

    def _competitor(self, cell: Cell, images: int, clean: Labelled, watch: "_Watch") -> Competitor:
        seed = derive_seed(cell.seed, "competitor")
        network = build(cell.network, len(self.sets.classes), input_size=self.sets.side, seed=seed)
        if self.settings.trained == "head":
            train_head_only(network)
        recipe = self.recipe(cell.network, images)
        return Competitor(network, recipe, self.device, seed, clean, watch, compiled=self.settings.compiled)

    def _material(self, cell: Cell, countermeasure: Countermeasure) -> tuple[Labelled, Labelled]:
        """Return what the competitor trains on, and the clean images it owns.

        Images that are drawn from the originals to be the competitor's own are taken out of the release: they were
        never protected, as if an earlier copy had been published.
        """
        material = material_of(self.sets, cell.material, self.settings.seed)
        needed = countermeasure.clean_images
        if not needed:
            return material, self.sets.original.take(torch.arange(0))
        if len(self.sets.clean):
            return material, self.sets.clean.take(_drawn(self.sets.clean.labels, needed, self.settings.seed))
        own = _drawn(self.sets.original.labels, needed, self.settings.seed)
        others = torch.ones(len(material), dtype=torch.bool)
        others[own] = False
        return material.take(others), self.sets.original.take(own)


def material_of(sets: Sets, name: str, seed: int) -> Labelled:
    """Return the images that a material means; see `Cell.material`."""
    whole: Mapping[str, Labelled] = {ORIGINAL: sets.original, NOISE: sets.noise, RELEASED: sets.released}
    if name in whole:
        return whole[name]
    kind, _, share = name.partition("-")
    order = torch.randperm(len(sets.original), generator=_generator(seed, "protected share"))
    protected = torch.zeros(len(order), dtype=torch.bool)
    protected[order[: _protected(len(order), share)]] = True
    if kind == "rest":
        return sets.original.take(~protected)
    images = torch.where(protected[:, None, None, None], sets.released.images, sets.original.images)
    return Labelled(images, sets.original.labels)


def _protected(count: int, share: str) -> int:
    return round(count * int(share) / 100)


def environment(device: torch.device) -> dict[str, str]:
    """Name the versions and the machine that a number comes from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "withhold": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device.type}, {name}",
        "threads": str(torch.get_num_threads()),
    }


class _Watch:
    """Tests a network on the clean images after each epoch; the countermeasures never see these images."""

    def __init__(self, test: Labelled, classes: int) -> None:
        self._test = test
        self._classes = classes
        self.curve: list[float] = []
        self.losses: list[float] = []
        self.final = 0.0
        self.per_class: tuple[float | None, ...] = (None,) * classes

    def __call__(self, network: nn.Module, result: EpochResult) -> None:
        self.curve.append(round(_mean(self._correct(network)), 6))
        self.losses.append(round(result.loss, 6))

    def test(self, network: nn.Module) -> None:
        """Measure the network that the competitor ends up with."""
        correct = self._correct(network)
        self.final = round(_mean(correct), 6)
        each = (correct[self._test.labels == label] for label in range(self._classes))
        self.per_class = tuple(round(_mean(of_class), 6) if len(of_class) else None for of_class in each)

    def _correct(self, network: nn.Module) -> Tensor:
        device = next(network.parameters()).device
        with torch.inference_mode():
            logits = [network(as_unit(images).to(device)) for images in torch.split(self._test.images, TESTED)]
        if not all(bool(each.isfinite().all()) for each in logits):
            msg = "the trained network gives outputs that are not finite"
            raise Diverged(msg)
        return torch.cat([each.argmax(1).cpu() for each in logits]) == self._test.labels


def _finite(value: float | int | str) -> float | int | str:
    """Keep a fact as it is where JSON can hold it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _mean(correct: Tensor) -> float:
    return float(correct.double().mean())


def _drawn(labels: Tensor, count: int, seed: int) -> Tensor:
    """Draw rows at random, as many of each class as the whole set's shares say (to within one)."""
    order = torch.randperm(len(labels), generator=_generator(seed, "clean images"))
    # Rank of each image within its class, as a share of the class: the smallest shares are an even draw.
    rank = torch.empty(len(labels), dtype=torch.float64)
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        rank[members] = torch.arange(len(members), dtype=torch.float64) / len(members)
    return rank.argsort(stable=True)[:count].sort().values


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, purpose))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, int | float | str) else str(value) for name, value in values.items()}
