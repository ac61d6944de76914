"""What a run would do and cost: the real plan, and a short timed probe of the work itself. Nothing is left on disk."""

import copy
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from withhold.data.entries import Entries
from withhold.data.pixels import Picture, levels
from withhold.data.place import Place, place_of
from withhold.progress import SILENT, Reporter
from withhold.release.crafting import Crafted, Crafter, Shown
from withhold.release.environment import reproducing
from withhold.release.materials import Materials
from withhold.release.preparing import Check, accept, open_to_release, plan_release
from withhold.release.run import DEFAULTS
from withhold.release.settings import ProtectSettings
from withhold.release.space import check_room, disk_bytes

if TYPE_CHECKING:
    from torch import nn

    from withhold.release.surrogate import Surrogate
    from withhold.release.training_images import Originals

PROBED_IMAGES = 32
"""Most images that the probe crafts."""

PROBED_STEPS = 3
TRAINED_IMAGES = 256
"""Most images that the probe trains on."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do, and what it would take on this machine.

    Attributes:
        skipped: Images that would be left out because they cannot be read.
        ignored: Files in the source that would not be released.
        training_seconds: For the surrogate, from a few training steps; None if none would be trained.
        crafting_seconds: For all images, from a few crafting steps on one batch.
        release_bytes: Size of the release, from the images of the probe.
        disk_bytes: Most that the run occupies at a time.
    """

    source: Place
    destination: Place
    layout: str
    images: int
    classes: int
    batches: int
    largest_batch: int
    skipped: tuple[str, ...]
    ignored: tuple[str, ...]
    training_seconds: float | None
    crafting_seconds: float
    release_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What a probe needs.

    Attributes:
        crafter: Builds a crafter that takes this many steps.
        training_seconds: What training the surrogate would take; None if none would be trained.
    """

    crafter: Callable[[int], Crafter]
    training_seconds: float | None


Prepare = Callable[[Materials], Prepared]


def dry_run(
    source: Place | str,
    destination: Place | str,
    settings: ProtectSettings = DEFAULTS,
    *,
    surrogate: "nn.Module | None" = None,
    reporter: Reporter = SILENT,
    private: Path | None = None,
) -> Estimate:
    """Plan a run in full, and estimate its time and disk space from a few real steps.

    Every image is read and decoded, so what would stop the run at its beginning stops this too.

    Raises:
        InvalidInput: What `protect` would refuse.
        RunStopped: The release would not fit on the disk.
    """
    from withhold.release.building import check_surrogate  # noqa: PLC0415 - it imports what this module does

    check = partial(check_surrogate, settings=settings, network=surrogate)
    prepare = partial(_prepare, network=surrogate)
    return estimate(source, destination, settings, prepare, reporter, check=check, private=private)


def estimate(
    source: Place | str,
    destination: Place | str,
    settings: ProtectSettings,
    prepare: Prepare,
    reporter: Reporter = SILENT,
    *,
    check: Check = accept,
    private: Path | None = None,
) -> Estimate:
    """Plan a run and probe it with any crafter; see `dry_run`."""
    opened = open_to_release(source, destination, settings, check, private=private)
    dataset, sidecar = opened.dataset, opened.sidecar
    plan = plan_release(opened, None, reporter)
    kept = plan.kept("width", "height")
    with tempfile.TemporaryDirectory() as folder, reproducing(opened.environment):
        work = Materials(dataset, plan, settings, Path(folder) / "surrogate.safetensors", reporter)
        prepared = prepare(work)
        seconds, per_pixel = _probe(work, prepared, settings.steps)
    pixels = int(np.dot(kept.column("width").to_numpy().astype(np.int64), kept.column("height").to_numpy()))
    built_here = sidecar.building == sidecar.staging
    disk = disk_bytes(plan, per_pixel, range(plan.batches), built_here=built_here)
    check_room(sidecar.root, disk)
    return Estimate(
        source=place_of(source),
        destination=sidecar.destination,
        layout=plan.layout,
        images=len(kept),
        classes=len(plan.classes),
        batches=plan.batches,
        largest_batch=max(len(rows) for rows in plan.rows_of_batches()),
        skipped=tuple(plan.skipped()),
        ignored=tuple(dataset.ignored()),
        training_seconds=prepared.training_seconds,
        crafting_seconds=seconds * settings.restarts * (len(kept) - len(plan.faceless())),
        release_bytes=math.ceil(per_pixel * pixels),
        disk_bytes=disk,
    )


def _probe(work: Materials, prepared: Prepared, steps: int) -> tuple[float, float]:
    """Craft a few images of the largest batch in one step and in more, and encode them.

    Returns:
        Seconds per image for this many steps, and bytes per pixel of the encoded release.
    """
    crafted_batches = (
        rows for rows in work.plan.rows_of_batches() if any(show != () for show in work.plan.shown(rows))
    )
    rows = max(crafted_batches, key=len)[:PROBED_IMAGES]
    entries = list(Entries(work.plan.table).take(rows))
    pictures = [work.dataset.decode(stored) for stored in work.dataset.read(entries)]
    shown = work.plan.shown(rows)
    short, long = prepared.crafter(1), prepared.crafter(1 + PROBED_STEPS)
    short(pictures, shown, 0)  # the first call also pays for memory and compilation
    once, _ = _timed(short, pictures, shown)
    more, crafted = _timed(long, pictures, shown)
    total = once + max(0.0, more - once) / PROBED_STEPS * (steps - 1)
    bound = levels(work.settings.eps)
    after = [picture.perturbed(delta, bound) for picture, delta in zip(pictures, crafted.deltas, strict=True)]
    beside = work.surrogate_file.parent
    writer = work.dataset.writer(beside / "release", beside / "spool", work.settings.lossless)
    size = sum(len(writer.encode(entry, picture)) for entry, picture in zip(entries, after, strict=True))
    pixels = sum(picture.levels.shape[0] * picture.levels.shape[1] for picture in pictures)
    return total / len(pictures), size / pixels


def _timed(crafter: Crafter, pictures: Sequence[Picture], shown: Sequence[Shown]) -> tuple[float, Crafted]:
    started = time.monotonic()
    crafted = crafter(pictures, shown, 0)
    return time.monotonic() - started, crafted


def _prepare(work: Materials, network: "nn.Module | None") -> Prepared:
    """Build the crafter that a run would use; where a surrogate would be trained, an untrained one is as fast."""
    from withhold.release.building import (  # noqa: PLC0415 - torch when it is needed
        build_crafter,
        check_room_for_directions,
        crafter_of,
        originals_of,
    )

    # A direction over the whole set would take a pass over it; the batch's makes the steps equally long.
    settings = work.settings.model_copy(update={"direction": "batch", "restarts": 1})
    quick = replace(work, settings=settings)
    if network is not None or settings.surrogate is not None:
        crafter, seconds = build_crafter(quick, network), None
        check_room_for_directions(work, crafter.surrogates[0].network)
    else:
        originals = originals_of(work)
        surrogate = _untrained(settings, originals)
        check_room_for_directions(work, surrogate.networks[0])
        crafter = crafter_of(quick, surrogate)
        seconds = None if surrogate.networks[0].ready else _training_seconds(settings, originals, surrogate)

    def with_steps(steps: int) -> Crafter:
        return replace(crafter, settings=settings.model_copy(update={"steps": steps}))

    return Prepared(with_steps, seconds)


def _untrained(settings: ProtectSettings, originals: "Originals") -> "Surrogate":
    from withhold.networks.choose import resolve_devices  # noqa: PLC0415
    from withhold.release.surrogate import Surrogate, choice_of, untrained  # noqa: PLC0415

    device = resolve_devices(settings.device)[0]
    network = untrained(settings, originals.classes, choice_of(settings, originals.sizes, device))
    views = originals.views(network.input_size, settings.augment)
    return Surrogate((network.to(device).eval(),), network.input_size, views, "", 0.0)


def _training_seconds(settings: ProtectSettings, originals: "Originals", surrogate: "Surrogate") -> float:
    """Train a copy on some of the originals for two epochs, and scale the second one to all of them and all epochs."""
    from withhold.networks.recipe import recipe_for  # noqa: PLC0415
    from withhold.networks.training import train  # noqa: PLC0415
    from withhold.release.crafter import OBJECTIVES  # noqa: PLC0415

    network = copy.deepcopy(surrogate.networks[0])
    device = next(network.parameters()).device
    some = originals.some(TRAINED_IMAGES)
    recipe = recipe_for(network.architecture, len(originals), epochs=settings.epochs)
    clean = some.training(network.input_size, surrogate.views)
    data = OBJECTIVES[settings.objective].trained_on.images(clean, network, settings)
    ends: list[float] = []  # the first epoch also pays for memory and compilation

    def note(_: object) -> None:
        ends.append(time.monotonic())

    train(network, data, replace(recipe, epochs=2), seed=0, device=device, on_epoch=note)
    return (ends[1] - ends[0]) * recipe.epochs * len(originals) / len(some)
