"""How much disk a run will need, and whether it is there."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from withhold.data.dataset import Dataset, Writer
from withhold.data.entries import codes_of
from withhold.data.pixels import levels
from withhold.errors import RunStopped
from withhold.release.plan import Plan
from withhold.release.settings import ProtectSettings
from withhold.seeds import derive_seed

SAMPLED = 16
"""Images that are encoded to learn how large the release will be."""


def density(plan: Plan, dataset: Dataset, writer: Writer, settings: ProtectSettings) -> float:
    """Measure the encoded bytes per pixel of images from all over the set, with noise in place of perturbations."""
    released = plan.released()
    rows = np.unique(np.linspace(0, len(released) - 1, SAMPLED).astype(np.int64))
    entries = list(released.take(rows))
    noise = np.random.default_rng(derive_seed(settings.seed, "space"))
    eps, bound = float(settings.eps), levels(settings.eps)
    size = pixels = 0
    for entry, stored in zip(entries, dataset.read(entries), strict=True):
        picture = dataset.decode(stored)
        after = picture.perturbed(noise.uniform(-eps, eps, picture.unit().shape), bound)
        size += len(writer.encode(entry, after))
        pixels += picture.levels.shape[0] * picture.levels.shape[1]
    return size / pixels


def disk_bytes(plan: Plan, per_pixel: float, pending: Sequence[int], *, built_here: bool = True) -> int:
    """Estimate what a run still adds to the disk at its largest: shards are rebuilt from a copy of all their images.

    Args:
        built_here: Whether the release is built on this disk; one in an object store leaves here only that copy and the
            shard that is being rebuilt.
    """
    kept = plan.kept("width", "height", "batch", "shard")
    width, height, batch = (kept.column(name).to_numpy() for name in ("width", "height", "batch"))
    area = width.astype(np.float64) * height  # whole numbers, exact up to 2^53
    pixels_of = np.bincount(batch, area)
    pixels = int(pixels_of[np.asarray(pending, np.int64)].sum())
    if plan.layout == "folder":
        return math.ceil(per_pixel * pixels) if built_here else 0
    if built_here:
        pixels += int(pixels_of.sum())
    else:
        _, shard = codes_of(kept.column("shard"))
        pixels += int(np.bincount(shard, area).max())
    return math.ceil(per_pixel * pixels)


def check_room(place: Path, needed: int) -> None:
    """Refuse work whose results would not fit on the disk that `place` is or will be on.

    Raises:
        RunStopped: States the bytes that are needed and those that are free.
    """
    there = next(path for path in (place, *place.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        msg = (
            f"not enough space on the disk of {place}: about {needed:,} bytes are needed and {free:,} are free; "
            f"make room, or choose a destination on another disk."
        )
        raise RunStopped(msg)
