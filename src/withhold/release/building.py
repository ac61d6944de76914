"""From a plan to a crafter: the surrogate, the views it is shown, and the directions that span the whole set."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import safetensors
from torch import nn

from withhold.data.dataset import Dataset
from withhold.data.entries import Entries
from withhold.data.parallel import map_ahead
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.networks.checkpoint import KEY, load
from withhold.networks.choose import Sizes
from withhold.networks.extractor import check_source
from withhold.networks.margins import margin_of
from withhold.networks.table import build, of_library
from withhold.release.crafter import EVERY_CLASS, GradientCrafter, Labelled, check_directions, prepare_crafter
from withhold.release.crafting import Shown
from withhold.release.face_crops import FaceCrops
from withhold.release.materials import Materials
from withhold.release.plan import Plan
from withhold.release.settings import ProtectSettings
from withhold.release.surrogate import Surrogate, resolve
from withhold.release.training_images import Originals, WholeImages

EXTRACTOR = "extractor:"
"""Prefix of a surrogate that is an extractor of the user's with a new head."""


def build_crafter(materials: Materials, network: nn.Module | None = None) -> GradientCrafter:
    """Get the surrogate that the settings ask for and prepare crafting against it.

    Args:
        network: A classifier of pixels in [0, 1] to take instead.

    Raises:
        InvalidInput: The surrogate does not fit the dataset or the settings.
        RunStopped: Its training diverged.
    """
    surrogate = resolve(
        originals_of(materials),
        materials.settings,
        weights=materials.surrogate_file,
        reporter=materials.reporter,
        network=network,
        reserved=materials.reserved,
        check=partial(check_room_for_directions, materials),
    )
    return crafter_of(materials, surrogate)


def crafter_of(materials: Materials, surrogate: Surrogate) -> GradientCrafter:
    """Prepare crafting against a surrogate that is there already."""
    return prepare_crafter(
        surrogate.networks,
        materials.settings,
        CleanImages(materials.dataset, materials.plan),
        present=np.unique(materials.plan.labels()).tolist(),
        crop_size=crop_size(materials.settings, surrogate),
        face_size=surrogate.input_size,
    )


def check_room_for_directions(materials: Materials, network: nn.Module) -> None:
    """Refuse, before a network is trained, directions for each class that would not fit into memory."""
    classes = len(np.unique(materials.plan.labels()))
    check_directions(materials.settings, network, classes, materials.settings.snapshots)


def originals_of(materials: Materials) -> Originals:
    """Return what a surrogate is trained on: the images that will be released, or the faces in them."""
    plan = materials.plan
    if plan.of_faces:
        return FaceCrops(materials.dataset, plan.kept(), materials.settings, materials.surrogate_file.parent)
    return WholeImages(materials.dataset, materials.entries, sizes_of(plan))


def check_surrogate(dataset: Dataset, settings: ProtectSettings, network: nn.Module | None = None) -> None:
    """Refuse a surrogate that cannot be built or loaded for the classes of a dataset, before any image is read.

    What depends on the images' size is left to `build_crafter`, and so is what another library would download.

    Raises:
        InvalidInput: The architecture is unknown, or the weights file is missing, damaged or of other classes.
    """
    if network is not None:
        return
    classes, named = len(dataset.classes), None if settings.architecture == "auto" else settings.architecture
    given: _Given = {"input_size": settings.input_size, "mean": settings.mean, "std": settings.std}
    if settings.head is not None:
        margin_of(settings.head)
    if named is not None and not of_library(named):
        build(named, classes, **given, head=settings.head or "softmax")
    if settings.surrogate is not None and settings.surrogate.startswith(EXTRACTOR):
        check_source(settings.surrogate.removeprefix(EXTRACTOR))
    if settings.surrogate is None or of_library(settings.surrogate):
        return
    file = Path(settings.surrogate).expanduser()
    if not file.is_file():
        msg = f"there is no weights file {file}."
        raise InvalidInput(msg)
    if settings.input_size is not None or _describes_itself(file):
        load(file, classes=classes, architecture=named, **given, head=settings.head)


class _Given(TypedDict):
    input_size: int | None
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None


def _describes_itself(file: Path) -> bool:
    try:
        with safetensors.safe_open(file, framework="pt") as stored:
            return KEY in (stored.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False


def crop_size(settings: ProtectSettings, surrogate: Surrogate) -> int | None:
    """Choose the side of the random crops that the surrogate is shown while crafting; None for whole pictures."""
    return surrogate.input_size if settings.augment == "crop" or surrogate.views == "crop" else None


def sizes_of(plan: Plan) -> Sizes:
    """Summarise the sizes of the images that will be released."""
    kept = plan.kept("width", "height")
    width, height = (kept.column(name).to_numpy() for name in ("width", "height"))
    sides = np.unique([width, height])
    return Sizes(int(sides[0]) if len(sides) == 1 else None, int(np.median(np.minimum(width, height))))


@dataclass(frozen=True, slots=True, eq=False)
class CleanImages:
    """The clean pictures of a plan, batch by batch, for directions over the whole set."""

    dataset: Dataset
    plan: Plan

    def __call__(self, label: int) -> Iterator[Labelled]:
        """Yield the pictures that show one class, or all of them for `EVERY_CLASS`, with what they show of it."""
        entries = Entries(self.plan.table)
        for rows in self.plan.rows_of_batches():
            shown = {place: _of_class(show, label) for place, show in enumerate(self.plan.shown(rows))}
            seen = {place: show for place, show in shown.items() if show is not None and show != ()}
            if seen:
                yield self._decoded(entries.take(rows[list(seen)])), list(seen.values())

    def _decoded(self, entries: Entries) -> list[Picture]:
        return list(map_ahead(self.dataset.decode, self.dataset.read(entries)))


def _of_class(shown: Shown, label: int) -> Shown | None:
    """Keep what shows a class; None, or no faces, if nothing does."""
    if label == EVERY_CLASS:
        return shown
    if isinstance(shown, int):
        return shown if shown == label else None
    return tuple(face for face in shown if face.label == label)


def fingerprint(settings: ProtectSettings, network: nn.Module | None) -> str | None:
    """Identify the weights that the caller brings along; None if the settings say all there is to know.

    Returns:
        SHA-256 over the network's state, or over the weights file that the settings name.
    """
    given = settings.surrogate or ""
    if network is None and given.startswith(EXTRACTOR):
        network = check_source(given.removeprefix(EXTRACTOR))
    if network is not None:
        digest = hashlib.sha256(type(network).__qualname__.encode())
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value.detach().cpu().double().numpy()).tobytes())
        return digest.hexdigest()
    file = Path(settings.surrogate).expanduser() if settings.surrogate else None
    if file is None or not file.is_file():
        return None
    with file.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()
