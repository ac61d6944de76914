"""`evaluate`: from originals, release and clean test images to a report of what competitors got."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.table import find
from withhold.evaluation.estimate import estimate
from withhold.evaluation.folder import claimed
from withhold.evaluation.images import Sets, load_sets
from withhold.evaluation.jobs import Workers, workers
from withhold.evaluation.likeness import compare
from withhold.evaluation.lpips import Lpips
from withhold.evaluation.matching import Chosen, Sources, choose_images
from withhold.evaluation.report.write import CSV, JSON, PAGE, write_report
from withhold.evaluation.results import Cell, CellResult, Evaluation
from withhold.evaluation.settings import EvaluateSettings
from withhold.evaluation.store import Store
from withhold.evaluation.suites import cells_of
from withhold.evaluation.training import Harness, environment
from withhold.evaluation.trainings import Trainings
from withhold.evaluation.verdict import attempts_of, judge
from withhold.networks.choose import Views, choose
from withhold.networks.head import classification_layer
from withhold.networks.table import UNTRAINED, build, is_path
from withhold.progress import SILENT, Reporter

DEFAULTS = EvaluateSettings()

FILES = (PAGE, JSON, CSV)
"""What an evaluation leaves in its folder."""


@dataclass(frozen=True, slots=True)
class Networks:
    """What competitors train, and what their networks see.

    Attributes:
        side: Of the networks' input.
    """

    names: tuple[str, ...]
    side: int
    views: Views


def evaluate(
    originals: Path,
    released: Path,
    test: Path,
    output: Path,
    settings: EvaluateSettings = DEFAULTS,
    *,
    clean: Path | None = None,
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Train competitors on a release in every way that the suite lists, test them, and write a report.

    Each training is kept in `output` as soon as it is finished; the same call after a crash or an interrupt trains only
    what is missing, and so does one that asks for more.

    Args:
        originals: The dataset as it was before protection.
        released: Its release.
        test: Clean images of the same classes that are in neither.
        output: Folder for the report; new, empty, or one of an earlier evaluation. It shows originals beside released
            images and must stay private.
        clean: Images that the competitor owns besides; if absent they are drawn from the originals where a
            countermeasure needs some, and their released versions are then left out.

    Raises:
        InvalidInput: An argument or a dataset is unusable; no training was begun.
        RunStopped: The run cannot go on; finished trainings are kept.
    """
    sources = Sources(originals, released, test, clean)
    places = [place for place in (originals, released, test, clean) if place is not None]
    with claimed(output, places, FILES, reporter) as cells:
        with workers(settings, reporter) as where:
            evaluation = _evaluate(sources, Store(cells), settings, where, reporter)
        reporter.say(f"Report: {write_report(evaluation, output)}")
        return evaluation


def _evaluate(
    sources: Sources, store: Store, settings: EvaluateSettings, where: Workers, reporter: Reporter
) -> Evaluation:
    for name in settings.countermeasures:
        find(name)
    lpips = Lpips.load(Path(settings.lpips)) if settings.lpips else None
    chosen = choose_images(sources, settings)
    networks = _networks(chosen, settings, where, reporter)
    cells, not_tried = _possible(cells_of(settings, networks.names), chosen, settings)
    likeness = compare(chosen, lpips, reporter)
    sets = load_sets(chosen, networks.side, networks.views, likeness.bound, settings.seed)
    harness = Harness(sets, settings, where.devices[0])
    trainings = Trainings(harness, where, store, lambda pending: estimate(pending, harness, where), _line)
    results = trainings.run(cells, reporter)
    attempts = attempts_of(results)
    chance = float(np.bincount(chosen.test.labels).max() / len(chosen.test))
    return Evaluation(
        settings=settings.model_dump(mode="json"),
        data=_about(sources, sets, networks, likeness.bound),
        classes=chosen.classes,
        chance=chance,
        attempts=attempts,
        verdict=judge(attempts, chance, not_tried),
        quality=likeness.quality,
        pictures=likeness.pictures(settings.pictures, settings.seed) if settings.pictures else (),
        environment=environment(where.devices[0]),
    )


def _networks(chosen: Chosen, settings: EvaluateSettings, where: Workers, reporter: Reporter) -> Networks:
    """Choose networks and their input size, and build each once, so that a wrong name fails before any work."""
    sizes = chosen.sizes()
    choice = choose(sizes, where.devices[0])
    side = settings.input_size or choice.input_size
    names = settings.networks or (choice.architecture,)
    if len(set(names)) < len(names):
        msg = f"each network is trained once; got {', '.join(names)}"
        raise InvalidInput(msg)
    for name in names:
        network = build(name, len(chosen.classes), input_size=side)
        if settings.trained == "head":
            if not is_path(name) or name.partition(":")[0] in UNTRAINED:
                msg = (
                    f"{name} is not pretrained: training its classification layer alone teaches it little. Name a "
                    "network such as timm:resnet18 or transformers:FOLDER, or train all layers."
                )
                raise InvalidInput(msg)
            classification_layer(network)
    views: Views = "native" if sizes.uniform_side == side else "crop"
    seen = "whole images" if views == "native" else "random crops"
    reporter.say(f"Competitors train {', '.join(names)} on {seen} at {side} px, on {where.devices[0].type}.")
    return Networks(names, side, views)


def _possible(cells: Sequence[Cell], chosen: Chosen, settings: EvaluateSettings) -> tuple[list[Cell], list[str]]:
    """Leave out what lacks a package or clean images; say what and why.

    Raises:
        InvalidInput: The user named such a countermeasure.
    """
    owned = len(chosen.original) // 2 if chosen.clean is None else len(chosen.clean)
    lacking = {}
    for name in dict.fromkeys(cell.countermeasure for cell in cells):
        countermeasure = find(name)
        absent = [
            extra for module, extra in countermeasure.packages.items() if importlib.util.find_spec(module) is None
        ]
        if absent:
            lacking[name] = f"{name} (install it with: pip install 'withhold[{','.join(absent)}]')"
        elif countermeasure.clean_images > owned:
            needed = countermeasure.clean_images
            lacking[name] = (
                f"{name} (it needs {needed} clean images of the competitor's own; there are {owned}: --clean)"
            )
    for name in settings.countermeasures:
        if name in lacking:
            msg = f"cannot try {lacking[name]}"
            raise InvalidInput(msg)
    return [cell for cell in cells if cell.countermeasure not in lacking], list(lacking.values())


def _line(result: CellResult) -> str:
    if result.diverged:
        return f"{result.cell.name}: diverged"
    return f"{result.cell.name}: {result.final:.1%} (best epoch {result.best:.1%}), {result.seconds:.0f} s"


def _about(sources: Sources, sets: Sets, networks: Networks, bound: int) -> dict[str, Any]:
    drawn = "drawn from the originals, whose released versions are then left out"
    return {
        "originals": str(sources.originals),
        "released": str(sources.released),
        "test": str(sources.test),
        "clean images of competitors": str(sources.clean) if sources.clean else drawn,
        "training images": len(sets.original),
        "test images": len(sets.test),
        "input size": networks.side,
        "views": networks.views,
        "largest change in levels": bound,
        "sha256": sets.digests,
    }
