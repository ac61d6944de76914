"""`evaluate`: from originals, release and clean test images to a report of what competitors got."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from withhold.data.arrays import spread_rows
from withhold.data.atomic import partial_of
from withhold.data.entries import Rows
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.table import find
from withhold.evaluation.estimate import Estimate, estimate
from withhold.evaluation.images import Sets, load_sets
from withhold.evaluation.jobs import Workers, workers
from withhold.evaluation.lpips import Lpips
from withhold.evaluation.matching import Chosen, Sources, choose_images
from withhold.evaluation.quality import measure_pairs, pictures
from withhold.evaluation.report.write import CSV, JSON, PAGE, write_report
from withhold.evaluation.results import Cell, CellResult, Evaluation, PairQuality
from withhold.evaluation.results import Picture as Drawn
from withhold.evaluation.settings import EvaluateSettings
from withhold.evaluation.store import Store
from withhold.evaluation.suites import cells_of
from withhold.evaluation.training import Harness, environment
from withhold.evaluation.verdict import attempts_of, judge
from withhold.networks.choose import Views, choose
from withhold.networks.head import classification_layer
from withhold.networks.table import UNTRAINED, build, is_path
from withhold.progress import SILENT, Reporter

DEFAULTS = EvaluateSettings()

MEASURED = 2000
"""Pairs whose likeness is measured, spread evenly over a larger set."""

CELLS, LOCK = "cells", ".lock"
FILES = (PAGE, JSON, CSV)
OURS = frozenset({CELLS, LOCK, *FILES, *(partial_of(Path(name)).name for name in FILES)})
"""What an evaluation leaves in its folder, also when it is killed while it writes."""


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
    _claim(output, sources)
    try:
        with FileLock(output / LOCK).acquire(timeout=0):
            evaluation = _evaluate(sources, Store(output / CELLS), settings, reporter)
            reporter.say(f"Report: {write_report(evaluation, output)}")
            return evaluation
    except KeyboardInterrupt:
        reporter.say(f"Interrupted. Finished trainings are kept in {output}; the same command goes on from there.")
        raise
    except Timeout:
        msg = f"another evaluation is writing to {output}; wait for it, or choose another folder"
        raise InvalidInput(msg) from None


def _evaluate(sources: Sources, store: Store, settings: EvaluateSettings, reporter: Reporter) -> Evaluation:
    where = workers(settings)
    for name in settings.countermeasures:
        find(name)
    lpips = Lpips.load(Path(settings.lpips)) if settings.lpips else None
    chosen = choose_images(sources, settings)
    networks = _networks(chosen, settings, where, reporter)
    cells, not_tried = _possible(cells_of(settings, networks.names), chosen, settings)
    likeness = _compare(chosen, lpips, reporter)
    if likeness.bound == 0:
        msg = f"{sources.released} holds the originals themselves: nothing was changed, so there is nothing to evaluate"
        raise InvalidInput(msg)
    sets = load_sets(chosen, networks.side, networks.views, likeness.bound, settings.seed)
    results = _train(cells, Harness(sets, settings, where.devices[0]), where, store, reporter)
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


def _claim(output: Path, sources: Sources) -> None:
    """Take a folder for the report, unless it holds anything that no evaluation made, or lies inside a dataset."""
    for place in (sources.originals, sources.released, sources.test, sources.clean):
        if place is not None and output.resolve().is_relative_to(place.resolve()):
            msg = f"{output} lies inside of {place}, whose part the report would become; name another folder"
            raise InvalidInput(msg)
    if output.exists() and not output.is_dir():
        msg = f"{output} is a file; name a folder for the report"
        raise InvalidInput(msg)
    foreign = sorted(path.name for path in output.iterdir() if path.name not in OURS) if output.is_dir() else []
    if foreign:
        msg = f"{output} holds files that no evaluation made, such as {foreign[0]}; name a new folder"
        raise InvalidInput(msg)
    output.mkdir(parents=True, exist_ok=True)


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


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How alike originals and released images are.

    Attributes:
        rows: Which pairs were measured.
        quality: Of each of them.
    """

    chosen: Chosen
    rows: Rows
    quality: tuple[PairQuality, ...]

    @property
    def bound(self) -> int:
        """Return the largest change of a channel value, in whole levels."""
        return int(np.ceil(max(pair.largest for pair in self.quality)))

    def pictures(self, count: int, seed: int) -> tuple[Drawn, ...]:
        """Draw sampled pairs and the least alike ones."""

        def read(numbers: Sequence[int]) -> Iterator[tuple[Picture, Picture]]:
            return _pairs(self.chosen, self.rows[np.asarray(numbers, np.int64)])

        return pictures(self.quality, read, count=count, seed=seed)


def _pairs(chosen: Chosen, rows: Rows) -> Iterator[tuple[Picture, Picture]]:
    return zip(chosen.original.pictures(rows), chosen.released.pictures(rows), strict=True)


def _compare(chosen: Chosen, lpips: Lpips | None, reporter: Reporter) -> Likeness:
    """Measure how alike originals and released images are, on all pairs or an even sample of a larger set."""
    rows = spread_rows(len(chosen.original), MEASURED, random_access=True)
    original = chosen.original.take(rows)
    reporter.start("Comparing pictures", len(rows), "images")

    def pairs() -> Iterator[tuple[str, str, Picture, Picture]]:
        decoded = _pairs(chosen, rows)
        for entry, label, (before, after) in zip(original.entries, original.labels, decoded, strict=True):
            reporter.advance()
            yield entry.name, chosen.classes[label], before, after

    quality = measure_pairs(pairs(), lpips)
    reporter.finish()
    return Likeness(chosen, rows, tuple(quality))


def _train(
    cells: Sequence[Cell], harness: Harness, where: Workers, store: Store, reporter: Reporter
) -> list[CellResult]:
    """Run the cells that have no stored result; return all results in the order of the cells."""
    stored = {cell: store.load(cell, harness.config(cell)) for cell in cells}
    pending = [cell for cell in cells if stored[cell] is None]
    if pending:
        reporter.say(_announce(estimate(pending, harness, where), len(cells), len(pending)))
        reporter.start("Training competitors", len(pending), "trainings")
        for result in where.run(pending, harness):
            store.save(result)
            stored[result.cell] = result
            reporter.advance()
            reporter.say(_line(result))
        reporter.finish()
    return [known for cell in cells if (known := stored[cell]) is not None]


def _announce(expected: Estimate, total: int, pending: int) -> str:
    done = f", {total - pending} of them finished before" if pending < total else ""
    return f"{total} trainings{done}; about {expected} to go."


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
