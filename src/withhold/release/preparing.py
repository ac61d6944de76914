"""What precedes the work of a run and of a dry run alike: everything that can be refused is refused here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from withhold.data.dataset import Dataset
from withhold.data.entries import Entries
from withhold.data.open import open_dataset
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.progress import Reporter
from withhold.release.environment import Environment
from withhold.release.places import place_release
from withhold.release.plan import Plan, make_plan
from withhold.release.scan import check_classes, check_none_emptied, check_readable, enumerate_some, scan
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar

Check = Callable[[Dataset], None]
"""Refuses, by raising `InvalidInput`, a dataset that a crafter cannot work on; called before any image is read."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A source and a destination that fit together and fit the settings; no image was read, and nothing written."""

    dataset: Dataset
    sidecar: Sidecar
    settings: ProtectSettings
    environment: Environment


def accept(_: Dataset) -> None:
    """Refuse nothing."""


def open_to_release(source: Path, destination: Path, settings: ProtectSettings, check: Check = accept) -> Opened:
    """Open a source, and refuse what can be refused without reading an image.

    Raises:
        InvalidInput: The places, the device, the settings or the surrogate are unusable.
    """
    environment = Environment.here(settings.device)
    if settings.epochs is not None and settings.snapshots > settings.epochs:
        msg = (
            f"snapshots are taken at the ends of epochs, and {settings.snapshots} of them do not fit into "
            f"{settings.epochs} epochs; lower snapshots, or raise epochs."
        )
        raise InvalidInput(msg)
    sidecar = place_release(source, destination)
    dataset = open_dataset(source, splits=settings.splits)
    check(dataset)
    return Opened(dataset, sidecar, settings, environment)


def plan_release(opened: Opened, fingerprint: str | None, reporter: Reporter) -> Plan:
    """Read every image once, refuse what cannot be released, and plan the rest.

    Raises:
        InvalidInput: Images are unreadable or do not fit the lossless format, or classes have too few.
        RunStopped: The disk failed to give a file.
    """
    dataset, settings = opened.dataset, opened.settings
    found = scan(dataset, reporter)
    check_readable(found.unreadable, skip=settings.skip_unreadable)
    plan = make_plan(dataset, found, settings, fingerprint, opened.environment)
    listed, kept = (table.column("label").to_numpy() for table in (plan.table, plan.kept()))
    check_none_emptied(plan.classes, listed, kept)
    check_classes(plan.classes, kept)
    check_storable(plan, opened)
    return plan


def check_storable(plan: Plan, opened: Opened) -> None:
    """Refuse what the layout could not store: WebP for instance holds no greyscale.

    Raises:
        InvalidInput: Names the images, and the format to choose instead.
    """
    lossless = opened.settings.lossless
    if lossless == "png":
        return  # it holds everything
    writer = opened.dataset.writer(opened.sidecar.staging, opened.sidecar.spool, lossless)
    modes = plan.table.column("mode")
    unfit: list[str] = []
    problem: InvalidInput | None = None
    for mode in modes.unique():
        if mode.as_py() in {"RGB", "RGBA", ""}:
            continue
        tiny = _tiny(str(mode.as_py()))
        for entry in Entries(plan.table.filter(pc.equal(modes, mode))):
            try:
                writer.encode(entry, tiny)
            except InvalidInput as error:
                unfit.append(entry.name)
                problem = error
    if problem is not None:
        msg = f"{enumerate_some(unfit)} cannot be released: {problem}"
        raise InvalidInput(msg)


def _tiny(mode: str) -> Picture:
    deep = mode.startswith("I")
    alpha = np.zeros((1, 1), np.uint8) if mode.endswith("A") else None
    return Picture(np.zeros((1, 1, 1), np.uint16 if deep else np.uint8), alpha)
