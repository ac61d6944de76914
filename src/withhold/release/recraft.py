"""Crafts a few images anew at other strengths, with the surrogate that a release keeps in its private folder."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from withhold.data.dataset import Dataset, Entry
from withhold.data.entries import TEXT, whole
from withhold.data.pixels import Picture, levels
from withhold.errors import InvalidInput
from withhold.progress import SILENT
from withhold.release.building import build_crafter
from withhold.release.crafting import Crafter, Shown
from withhold.release.environment import reproducing
from withhold.release.materials import Materials
from withhold.release.plan import Plan
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar
from withhold.release.stored_plan import load_plan
from withhold.seeds import derive_seed


def recraft(
    dataset: Dataset,
    release: Path,
    entries: Sequence[Entry],
    originals: Sequence[Picture],
    eps: Sequence[Fraction],
) -> list[tuple[str, list[Picture]]]:
    """Craft images at several strengths, in every other respect as the release was made.

    Args:
        dataset: The source, opened with the splits that were released, so that labels mean what they meant then.

    Returns:
        For each strength a title and the pictures, in the order of `originals`.

    Raises:
        InvalidInput: The release's private folder is not beside it, or holds no surrogate.
    """
    sidecar = Sidecar(release.resolve())
    if not (sidecar.plan_document.is_file() and sidecar.surrogate.is_file()):
        msg = f"crafting at other strengths needs the surrogate in {sidecar.root}, and there is none; leave out --eps"
        raise InvalidInput(msg)
    plan = load_plan(sidecar.plan_table, sidecar.plan_document)
    versions = []
    for strength in eps:
        settings = ProtectSettings(**{**plan.settings, "eps": strength})
        with reproducing(plan.environment):
            crafter = build_crafter(Materials(dataset, plan, settings, sidecar.surrogate, SILENT))
            versions.append((f"eps {strength}", _crafted(crafter, _shown(plan, entries), originals, settings)))
    return versions


def _shown(plan: Plan, entries: Sequence[Entry]) -> list[Shown]:
    names = pa.array([entry.name for entry in entries], TEXT)
    return plan.shown(pc.index_in(names, whole(plan.table.column("name"))).to_numpy())


def _crafted(
    crafter: Crafter, shown: Sequence[Shown], originals: Sequence[Picture], settings: ProtectSettings
) -> list[Picture]:
    """Craft the images together, those of equal channel count at a time; one without any face stays as it is."""
    released = list(originals)
    visible = [i for i, show in enumerate(shown) if show != ()]
    for channels in {originals[i].levels.shape[2] for i in visible}:
        places = [i for i in visible if originals[i].levels.shape[2] == channels]
        pictures, seen = [originals[i] for i in places], [shown[i] for i in places]
        deltas = crafter(pictures, seen, derive_seed(settings.seed, "recraft")).deltas
        for i, delta in zip(places, deltas, strict=True):
            released[i] = originals[i].perturbed(delta, levels(settings.eps))
    return released
