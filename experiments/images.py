"""The CIFAR-10 images of an experiment, and its releases, crafted in memory and kept on disk."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.specification import Release, Size
from withhold.data.arrays import as_it_is, stack_arrays
from withhold.data.dataset import Dataset
from withhold.data.entries import Entries, list_entries
from withhold.data.open import open_dataset
from withhold.data.pixels import Picture, levels
from withhold.data.quality import psnr, ssim
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.images import Sets
from withhold.evaluation.lpips import Lpips
from withhold.evaluation.results import RELEASED
from withhold.evaluation.training import material_of
from withhold.networks.recipe import recipe_for
from withhold.networks.table import build
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import accuracy, as_unit, train
from withhold.release.crafter import OBJECTIVES, prepare_crafter
from withhold.release.crafter import Labelled as Batch
from withhold.release.settings import ProtectSettings
from withhold.seeds import derive_seed
from withhold.version import __version__

SIDE = 32
CHUNK = 500
HELD_OUT = 500
"""Validation images of each class, behind the training images in the official order."""


@dataclass(frozen=True, slots=True, eq=False)
class Cifar:
    """Clean images: to protect, to judge by, and those that a competitor may own."""

    classes: tuple[str, ...]
    train: Labelled
    judge: Labelled
    owned: Labelled


def cifar(data: Path, size: Size) -> Cifar:
    """Read the official CIFAR-10 python batches.

    The images that competitors own are training images that are not released, from the end of the official order.
    """
    training, test = (open_dataset(data, splits=(split,)) for split in ("train", "test"))
    rows = _first_of_each_class(training, size.per_class + HELD_OUT)
    entries = Entries(list_entries(training))
    chosen = np.sort(rows[:, : size.per_class].ravel())
    if size.judge == "test":
        tested = Entries(list_entries(test))
        if size.judge_per_class:
            tested = tested.take(np.sort(_first_of_each_class(test, size.judge_per_class).ravel()))
        judge = _read(test, tested)
    else:
        held_out = rows[:, size.per_class :][:, : size.judge_per_class or None]
        judge = _read(training, entries.take(np.sort(held_out.ravel())))
    others = np.setdiff1d(np.arange(len(entries)), rows.ravel())[-4000:]
    owned = _read(training, entries.take(others)) if len(others) else judge.take(torch.arange(0))
    return Cifar(tuple(training.classes), _read(training, entries.take(chosen)), judge, owned)


def _first_of_each_class(dataset: Dataset, count: int) -> np.ndarray:
    labels = np.array([entry.label for entry in dataset.entries()])
    rows = [np.flatnonzero(labels == label)[:count] for label in range(len(dataset.classes))]
    shortest = min(map(len, rows))
    return np.stack([each[:shortest] for each in rows])


def _read(dataset: Dataset, entries: Entries) -> Labelled:
    images, labels = stack_arrays(dataset, entries, SIDE, as_it_is)
    return Labelled(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """What is published, with what was measured while crafting it."""

    images: Tensor
    measures: dict[str, float]


class Owner:
    """Crafts releases of one seed after the other; finished ones are kept in a folder and not crafted again."""

    def __init__(self, clean: Cifar, size: Size, device: torch.device, folder: Path) -> None:
        self.clean = clean
        self.size = size
        self.device = device
        self.folder = folder

    def release(self, release: Release, settings: ProtectSettings | None, seed: int) -> Released:
        """Return a release, crafted now or kept from before."""
        original = self.clean.train.images
        if settings is None:
            noisy = _noise(original, levels(ProtectSettings().eps), seed)
            return Released(original if release.kind == "original" else noisy, {})
        about = {
            "version": __version__,
            "device": self.device.type,
            "settings": settings.model_dump(mode="json"),
            "size": self.size.model_dump(exclude={"seeds", "judge", "judge_per_class"}),
            "surrogate": [release.surrogate, release.surrogate_epochs],
            "seed": seed,
            "images": _sha256(original),
        }
        path = self.folder / f"{_digest(about)}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # another process may be at the same release
            if not path.exists():
                images, measures = self._craft(release, settings, seed)
                partial = path.with_suffix(".partial")
                save_file({"images": images.contiguous(), **_as_tensors(measures)}, partial)
                partial.replace(path)
        stored = load_file(path)
        images = stored.pop("images")
        measures = {name: float(value) for name, value in stored.items()}
        if release.share < 100:  # what was measured on a wholly protected set is not true of this one
            del measures["surrogate_on_released"]
        partly = material_of(sets_of(self.clean, images), f"{RELEASED}-{release.share}", seed)
        return Released(partly.images, measures)

    def _craft(self, release: Release, settings: ProtectSettings, seed: int) -> tuple[Tensor, dict[str, float]]:
        clean = self.clean.train
        networks = self._surrogates(release, settings, seed)
        pictures = [Picture(image) for image in clean.images.permute(0, 2, 3, 1).numpy()]
        order = torch.randperm(len(clean), generator=_generator(seed, "batches"))

        def labelled(key: int) -> Iterator[Batch]:
            wanted = torch.arange(len(clean)) if key < 0 else (clean.labels == key).nonzero().flatten()
            for part in torch.split(wanted, CHUNK):
                yield [pictures[i] for i in part.tolist()], clean.labels[part].tolist()

        began = time.perf_counter()
        crafter = prepare_crafter(networks, settings, labelled, present=range(len(self.clean.classes)))
        images, bound = clean.images.clone(), levels(settings.eps)
        alignments: list[float] = []
        agreements: list[float] = []
        for number, chosen in enumerate(torch.split(order, settings.batch_size)):
            batch = [pictures[i] for i in chosen.tolist()]
            crafted = crafter(batch, clean.labels[chosen].tolist(), derive_seed(seed, "craft", number))
            alignments += crafted.alignments
            agreements += [] if crafted.sign_agreement is None else [crafted.sign_agreement]
            for index, picture, delta in zip(chosen.tolist(), batch, crafted.deltas, strict=True):
                images[index] = torch.from_numpy(picture.perturbed(delta, bound).levels).permute(2, 0, 1)
        measures = {
            "crafting_seconds": time.perf_counter() - began,
            "largest_change": float((images.int() - clean.images.int()).abs().max()),
            "surrogate_on_clean": accuracy(networks[-1], clean.images, clean.labels),
            "surrogate_on_released": accuracy(networks[-1], images, clean.labels),
        }
        means = {"alignment": np.nanmean(alignments) if not np.isnan(alignments).all() else np.nan}
        means["sign_agreement"] = np.mean(agreements) if agreements else np.nan
        measures |= {name: float(value) for name, value in means.items() if np.isfinite(value)}
        return images, measures

    def _surrogates(self, release: Release, settings: ProtectSettings, seed: int) -> Sequence[nn.Module]:
        epochs = release.surrogate_epochs or self.size.epochs
        # Only what its training depends on, so that releases share a surrogate where they can.
        changed = settings.eps if settings.objective == "error-minimising" else None
        return _trained(self, release.surrogate or self.size.network, epochs, settings.snapshots, seed, changed)


@lru_cache(maxsize=8)
def _trained(  # noqa: PLR0917 - the key of a cache
    owner: Owner, architecture: str, epochs: int, snapshots: int, seed: int, eps: Fraction | None
) -> Sequence[nn.Module]:
    """Train a surrogate, and return it or its snapshots, the final one last."""
    clean, classes = owner.clean.train, len(owner.clean.classes)
    network = build(architecture, classes, input_size=SIDE, seed=derive_seed(seed, "surrogate"))
    objective = "class-targeted" if eps is None else "error-minimising"
    settings = ProtectSettings(objective=objective) if eps is None else ProtectSettings(objective=objective, eps=eps)
    data = OBJECTIVES[objective].trained_on.images(TensorData(clean.images, clean.labels, classes), network, settings)
    recipe = replace(recipe_for(architecture, len(clean)), epochs=epochs)
    result = train(network, data, recipe, seed=derive_seed(seed, "surrogate"), device=owner.device, snapshots=snapshots)
    members = []
    for weights in result.snapshots:
        member = build(architecture, classes, input_size=SIDE)
        member.load_state_dict(weights)
        members.append(member.eval().to(owner.device))
    return members


def likeness(originals: Tensor, released: Tensor, lpips: Lpips | None = None) -> dict[str, float]:
    """Measure mean PSNR, in dB, of the images that changed, and mean SSIM of all, and LPIPS if it is here."""
    before, after = ([Picture(image) for image in part.permute(0, 2, 3, 1).numpy()] for part in (originals, released))
    ratios = [psnr(one, other) for one, other in zip(before, after, strict=True)]
    changed = [ratio for ratio in ratios if np.isfinite(ratio)]
    measured = {"ssim": float(np.mean(ssim(before, after)))}
    if changed:
        measured["psnr"] = float(np.mean(changed))
    if lpips is not None:
        pairs = zip(torch.split(originals, CHUNK), torch.split(released, CHUNK), strict=True)
        distances = [lpips(as_unit(one), as_unit(other)) for one, other in pairs]
        measured["lpips"] = float(torch.cat(distances).mean())
    return measured


def sets_of(clean: Cifar, released: Tensor) -> Sets:
    """Present a release to the evaluation, as if it had been read from files."""
    train = clean.train
    sets = {"original": train, "released": Labelled(released, train.labels), "test": clean.judge, "clean": clean.owned}
    digests = {name: _sha256(part.images) for name, part in sets.items()}
    return Sets(clean.classes, train, train, sets["released"], clean.judge, clean.owned, SIDE, digests)


def _noise(images: Tensor, bound: int, seed: int) -> Tensor:
    signs = np.random.default_rng(derive_seed(seed, "noise")).choice([-1.0, 1.0], size=images.shape)
    moved = [
        Picture(image).perturbed(sign, bound).levels
        for image, sign in zip(images.permute(0, 2, 3, 1).numpy(), signs, strict=True)
    ]
    return torch.from_numpy(np.stack(moved)).permute(0, 3, 1, 2).contiguous()


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, purpose))


def _sha256(images: Tensor) -> str:
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()


def _as_tensors(measures: dict[str, float]) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in measures.items()}


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
