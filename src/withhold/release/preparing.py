"""What precedes the work of a run and of a dry run alike: everything that can be refused is refused here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from withhold.data.dataset import Dataset
from withhold.data.entries import Entries
from withhold.data.open import open_dataset
from withhold.data.pixels import Picture
from withhold.data.place import Place, place_of
from withhold.errors import InvalidInput
from withhold.progress import Reporter
from withhold.release.environment import Environment
from withhold.release.face_column import faces_in
from withhold.release.face_finding import (
    FaceSource,
    check_faceless,
    check_identities,
    find_faces,
    open_faces,
    values_of,
)
from withhold.release.places import place_release
from withhold.release.plan import Plan, make_plan, settings_that_matter
from withhold.release.reaching import refuse_leftovers
from withhold.release.scan import Scan, check_classes, check_none_emptied, check_readable, enumerate_some, scan
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar
from withhold.release.stored_plan import (
    check_faces,
    check_resumable,
    check_same_computation,
    check_source,
    load_plan,
    save_plan,
)

Check = Callable[[Dataset], None]
"""Refuses, by raising `InvalidInput`, a dataset that a crafter cannot work on; called before any image is read."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A source and a destination that fit together and fit the settings; no image was read, and nothing written.

    Attributes:
        faces: Knows where faces in photographs are; None if images are to be seen whole.
    """

    dataset: Dataset
    sidecar: Sidecar
    settings: ProtectSettings
    environment: Environment
    faces: FaceSource | None = None


def accept(_: Dataset) -> None:
    """Refuse nothing."""


def open_to_release(
    source: Place | str,
    destination: Place | str,
    settings: ProtectSettings,
    check: Check = accept,
    *,
    threads: int | None = None,
    private: Path | None = None,
) -> Opened:
    """Open a source, and refuse what can be refused without reading an image.

    Args:
        threads: Of each process that will craft by a new plan; see `Environment.here`.
        private: With a URL as destination, where the private folder is.

    Raises:
        InvalidInput: The places, the device, the settings, the surrogate or what states faces are unusable.
    """
    environment = Environment.here(settings.device, threads)
    if settings.epochs is not None and settings.snapshots > settings.epochs:
        msg = (
            f"snapshots are taken at the ends of epochs, and {settings.snapshots} of them do not fit into "
            f"{settings.epochs} epochs; lower snapshots, or raise epochs."
        )
        raise InvalidInput(msg)
    source = place_of(source)
    sidecar = place_release(source, place_of(destination), private)
    dataset = open_dataset(source, splits=settings.splits)
    check(dataset)
    return Opened(dataset, sidecar, settings, environment, open_faces(settings, dataset))


def plan_release(opened: Opened, fingerprint: str | None, reporter: Reporter) -> Plan:
    """Read every image once, refuse what cannot be released, and plan the rest.

    Raises:
        InvalidInput: Images are unreadable, have no face or one that does not fit, are no aligned faces where these are
            expected, do not fit the lossless format, or classes have too few.
        RunStopped: The disk failed to give a file.
    """
    dataset, settings = opened.dataset, opened.settings
    pictures = partial(check_classes, kind="identity", item="picture") if settings.task == "faces" else check_classes
    members = pictures if opened.faces is None else check_identities
    # A folder with a single photograph may hold many faces; how many an identity has is known from the faces.
    found = scan(dataset, reporter, pictures if opened.faces is None else accept_classes)
    check_readable(found.unreadable, skip=settings.skip_unreadable)
    plan = make_plan(dataset, found, settings, fingerprint, opened.environment, faces=_faces(opened, found, reporter))
    listed, kept = (table.column("label").to_numpy() for table in (plan.table, plan.kept("label")))
    check_none_emptied(plan.classes, listed, kept)
    members(plan.classes, plan.labels())
    check_aligned(plan, settings)
    check_storable(plan, opened)
    return plan


def settle_plan(opened: Opened, fingerprint: str | None, reporter: Reporter) -> Plan:
    """Load the plan of an earlier start if there is one, and check that it still holds; else make and store one.

    Args:
        fingerprint: Of weights that the caller brings along.

    Raises:
        InvalidInput: The earlier start finished some work by another plan, or the dataset cannot be planned.
        RunStopped: An image cannot be read any more.
    """
    sidecar = opened.sidecar
    if sidecar.plan_document.exists():
        try:
            return _resumed_plan(opened, fingerprint, reporter)
        except InvalidInput:
            if sidecar.has_work():
                raise
            refuse_leftovers(sidecar)
            reporter.say("An earlier start had planned otherwise and finished nothing; the plan is made anew.")
    plan = plan_release(opened, fingerprint, reporter)
    save_plan(plan, sidecar.plan_table, sidecar.plan_document)
    return plan


def _resumed_plan(opened: Opened, fingerprint: str | None, reporter: Reporter) -> Plan:
    sidecar = opened.sidecar
    plan = load_plan(sidecar.plan_table, sidecar.plan_document)
    check_resumable(plan, settings_that_matter(opened.settings), fingerprint, sidecar.root)
    if not sidecar.manifest.exists():  # a finished release stays valid whatever comes after what made it
        check_same_computation(plan, opened.environment, sidecar.root)
    check_source(plan, opened.dataset, sidecar.root, reporter)
    if opened.faces is not None and opened.faces.fixed:
        check_faces(plan, find_faces(opened.faces, opened.dataset, plan.table, reporter), sidecar.root)
    return plan


def accept_classes(*_: object) -> None:
    """Refuse no number of images in a class."""


def _faces(opened: Opened, found: Scan, reporter: Reporter) -> "pa.Array[Any] | None":
    if opened.faces is None:
        return None
    column = find_faces(opened.faces, opened.dataset, found.table, reporter)
    names, modes = (values_of(found.table, name) for name in ("name", "mode"))
    readable = [(name, faces) for name, mode, faces in zip(names, modes, faces_in(column), strict=True) if mode]
    check_faceless([name for name, faces in readable if not faces], len(readable), opened.settings)
    return column


def check_aligned(plan: Plan, settings: ProtectSettings) -> None:
    """Refuse to take pictures of different sizes for aligned faces.

    Raises:
        InvalidInput: States the sizes, and how to say where the faces are.
    """
    if settings.task != "faces" or plan.of_faces:
        return
    kept = plan.kept("width", "height")
    sizes = np.unique([kept.column(name).to_numpy() for name in ("width", "height")], axis=1).T
    if len(sizes) == 1 and sizes[0][0] == sizes[0][1]:
        return
    found = enumerate_some([f"{width} x {height}" for width, height in sizes.tolist()], 5)
    msg = (
        f"for --task faces pictures must be faces aligned to squares of one size, such as 112 x 112; these are "
        f"{found}. Align them, or give whole photographs and say with --faces or --detector where faces are."
    )
    raise InvalidInput(msg)


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
