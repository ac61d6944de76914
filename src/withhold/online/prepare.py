"""`online prepare`: from the owner's images to a protector, in steps that are kept if a later one is interrupted."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from withhold.data.atomic import write_atomic
from withhold.errors import InvalidInput
from withhold.networks.checkpoint import Loaded
from withhold.networks.checkpoint import load as load_networks
from withhold.networks.choose import Views, resolve_device
from withhold.networks.table import LARGEST_FULL_RESOLUTION
from withhold.online.folder import (
    DIRECTIONS,
    DOCUMENT,
    GENERATOR,
    KEY,
    SURROGATE,
    Document,
    new_key,
    read_folder,
    write_folder,
)
from withhold.online.generator import COLOURS, Generator, Shape
from withhold.online.lanes import objective_of
from withhold.online.loading import encode_directions, processor
from withhold.online.settings import OnlineSettings
from withhold.online.training import generator_recipe, train_generator
from withhold.progress import SILENT, Reporter
from withhold.release.building import build_crafter, check_surrogate, fingerprint, originals_of
from withhold.release.crafter import GradientCrafter, views_of
from withhold.release.environment import reproducing
from withhold.release.materials import Materials
from withhold.release.preparing import open_to_release, settle_plan
from withhold.release.publish import publish, stopping_cleanly
from withhold.release.sidecar import Sidecar
from withhold.release.surrogate import named_network
from withhold.release.training_images import HELD_BYTES
from withhold.seeds import derive_seed
from withhold.version import __version__

DEFAULTS = OnlineSettings()
FEW_STRIDE, MANY_STRIDE = 2, 4
"""Of the generator, for a surrogate's input of up to `LARGEST_FULL_RESOLUTION` and beyond."""

LANES_ELSEWHERE = 8
"""Lanes on a device that is not a CPU: a step on eight images of 224 px takes little longer there than on one."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was prepared.

    Attributes:
        images: That the surrogate and the generator were trained on.
        fingerprint: Of the protector.
        surrogate: One sentence.
    """

    destination: Path
    images: int
    classes: int
    fingerprint: str
    surrogate: str
    seconds: float


def prepare(
    photos: Path, destination: Path, settings: OnlineSettings = DEFAULTS, reporter: Reporter = SILENT
) -> Prepared:
    """Prepare a protector from labelled images: train (or take) the surrogate, train the generator, draw the key.

    The protector appears at `destination` once it is whole. Until then finished steps are kept beside it, and after a
    crash or an interrupt the same call goes on after the last of them.

    Args:
        photos: A dataset in a layout that `open_dataset` knows; it is only read.
        destination: A folder that is new or empty.

    Raises:
        InvalidInput: An argument or the dataset is unusable.
        RunStopped: Training diverged, the disk is full, or an image cannot be read.
    """
    began = time.monotonic()
    destination = Path(destination)
    if (destination / DOCUMENT).exists() and not Sidecar(destination).root.exists():
        msg = f"{destination} holds a protector already; use it, or name a new folder. A new one gives other changes."
        raise InvalidInput(msg)
    opened = open_to_release(
        Path(photos), Path(destination), settings, lambda dataset: check_surrogate(dataset, settings)
    )
    sidecar = opened.sidecar
    assert isinstance(sidecar.destination, Path)  # as that which was given
    with stopping_cleanly(sidecar, reporter), sidecar.locked():
        plan = settle_plan(opened, fingerprint(settings, None), reporter)
        if not (sidecar.destination / DOCUMENT).exists():
            with reproducing(plan.environment):
                _build(Materials(opened.dataset, plan, settings, sidecar.surrogate, reporter), sidecar)
            publish(sidecar)
        document = read_folder(sidecar.destination).document
        _tidy(sidecar)
    return Prepared(
        destination=sidecar.destination,
        images=len(plan.kept()),
        classes=len(plan.classes),
        fingerprint=document.fingerprint,
        surrogate=document.surrogate,
        seconds=time.monotonic() - began,
    )


def shape_for(settings: OnlineSettings, classes: int, input_size: int) -> Shape:
    """Choose what a generator is built from, for a surrogate's input of this side."""
    stride = FEW_STRIDE if input_size <= LARGEST_FULL_RESOLUTION else MANY_STRIDE
    return Shape(classes, float(settings.eps), settings.generator_width, settings.generator_blocks, stride)


def lanes_for(settings: OnlineSettings, device: torch.device) -> int:
    """Choose how many images are crafted side by side."""
    alone = device.type == "cpu" or (settings.objective == "alignment" and settings.direction == "class")
    return settings.lanes or (1 if alone else LANES_ELSEWHERE)


def train_for(
    crafter: GradientCrafter,
    images: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    reporter: Reporter = SILENT,
) -> Generator:
    """Train a generator for what a crafter minimises, by its settings.

    Args:
        images: (n, 3, side, side), uint8, as the surrogates see them.
        labels: (n,), int64.
    """
    settings = crafter.settings
    assert isinstance(settings, OnlineSettings)
    recipe = generator_recipe(len(images), settings.generator_epochs)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(settings.seed, "initial generator"))
        generator = Generator(shape_for(settings, classes, images.shape[3]))
    generator.to(crafter.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    reporter.say(f"Training the generator on {len(images):,} images for {recipe.epochs} epochs.")
    reporter.start("Training the generator", recipe.epochs, "epochs")
    train_generator(
        generator,
        images,
        labels,
        objective_of(crafter),
        views=views_of(settings, crafter.crop_size),
        recipe=recipe,
        seed=settings.seed,
        on_epoch=reporter.advance,
    )
    reporter.finish()
    return generator


def _build(materials: Materials, sidecar: Sidecar) -> None:
    """Train what is not trained yet, and write the protector to the staging folder."""
    settings, plan = materials.settings, materials.plan
    assert isinstance(settings, OnlineSettings)
    crafter = build_crafter(materials)
    kept = load_networks(sidecar.surrogate, classes=len(plan.classes), architecture=named_network(settings))
    final = kept.networks[-1]
    weights = _trained_generator(materials, crafter, final.input_size, sidecar.root / GENERATOR)
    device = resolve_device(settings.device)
    document = Document(
        version=__version__,
        torch=plan.environment.torch,
        device=device.type,
        threads=plan.environment.threads,
        processor=processor(device.type),
        settings=settings,
        classes=plan.classes,
        input_size=final.input_size,
        crop_size=crafter.crop_size,
        lanes=lanes_for(settings, device),
        speeds=settings.speeds(),
        generator=shape_for(settings, len(plan.classes), final.input_size),
        surrogate=_description(kept),
    )
    files = {SURROGATE: sidecar.surrogate.read_bytes(), GENERATOR: weights, KEY: new_key()}
    directions = encode_directions(crafter.surrogates)
    if directions is not None:
        files[DIRECTIONS] = directions
    shutil.rmtree(sidecar.staging, ignore_errors=True)
    write_folder(sidecar.staging, document, files)


def _trained_generator(materials: Materials, crafter: GradientCrafter, side: int, place: Path) -> bytes:
    """Return the generator's weights, trained now or by an earlier start."""
    if not place.exists():
        views: Views = "native" if crafter.crop_size is None else "crop"
        held = HELD_BYTES // (COLOURS * side**2)
        images, labels = originals_of(materials).sample(side, views, held)
        generator = train_for(crafter, images, labels, len(materials.plan.classes), materials.reporter)
        state = {name: value.cpu().contiguous() for name, value in generator.state_dict().items()}
        write_atomic(place, safetensors.torch.save(state))
    return place.read_bytes()


def _description(kept: Loaded) -> str:
    details = kept.metadata.details if kept.metadata is not None else {}
    return str(details.get("description", ""))


def _tidy(sidecar: Sidecar) -> None:
    """Delete what only preparing needed; the plan goes last, as it tells that the rest is ours."""
    sidecar.forget_batches()
    for path in (sidecar.root / GENERATOR, sidecar.surrogate, sidecar.plan_document):
        path.unlink(missing_ok=True)
