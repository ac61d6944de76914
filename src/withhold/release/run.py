"""`protect`: from a dataset on disk to its verified release, in steps that can each be repeated after a crash."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from withhold.data.dataset import Dataset, Writer
from withhold.data.open import open_dataset
from withhold.data.pixels import levels
from withhold.data.place import Place
from withhold.errors import InvalidInput
from withhold.progress import SILENT, Reporter
from withhold.release.building import build_crafter, check_surrogate, fingerprint
from withhold.release.document import ReleaseDocument, write_document
from withhold.release.engines.batches import Engine, Work, batches_of
from withhold.release.engines.choose import engine_on
from withhold.release.environment import reproducing
from withhold.release.manifest import Quality, read_quality, save_record, write_manifest
from withhold.release.materials import MakeCrafter, Materials
from withhold.release.plan import Plan
from withhold.release.preparing import Check, accept, open_to_release, settle_plan
from withhold.release.publish import clear_partial, craft_again, publish, stopping_cleanly, was_published
from withhold.release.reaching import check_writable
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar
from withhold.release.space import check_room, density, disk_bytes
from withhold.release.verify import Bound, Verification, compare

if TYPE_CHECKING:
    from torch import nn

DEFAULTS = ProtectSettings()


@dataclass(frozen=True, slots=True)
class ProtectReport:
    """What a run did.

    Attributes:
        destination: The release.
        sidecar: What must stay private: surrogate, plan, manifest.
        images: Images in the release.
        crafted: Images that this start of the run crafted; the others were finished before.
        skipped: Images left out because they cannot be read.
        ignored: Files in the source that are no part of the dataset and were not released.
        seconds: Wall time of this start.
        working_seconds: Part of it from the first batch read to the last one written.
        crafting_seconds: Part of that spent in crafting itself.
    """

    destination: Place
    sidecar: Path
    layout: str
    images: int
    classes: int
    batches: int
    crafted: int
    skipped: tuple[str, ...]
    ignored: tuple[str, ...]
    quality: Quality
    verification: Verification
    seconds: float
    working_seconds: float
    crafting_seconds: float


def protect(
    source: Place | str,
    destination: Place | str,
    settings: ProtectSettings = DEFAULTS,
    *,
    surrogate: "nn.Module | None" = None,
    engine: Engine | None = None,
    reporter: Reporter = SILENT,
    private: Path | None = None,
) -> ProtectReport:
    """Protect a labelled image dataset: write a release of the same layout that cannot usefully be trained on.

    The release appears at `destination` once it is whole and verified. Everything private lies beside it, in
    `<destination>.withhold`. After a crash or an interrupt, the same call goes on where the last one ended and gives
    the same bytes.

    Args:
        source: Folder or file in a layout that `open_dataset` knows: a path, or the URL of one in an object store.
        destination: A folder that is new or empty, or a finished release of the same call, which is verified again;
            a path or a URL.
        surrogate: Classifier of pixels in [0, 1] to craft against; what the settings say if absent.
        engine: Crafts and writes the batches; by the device in the settings if absent. The release is the same.
        private: With a URL as destination, where the private folder is on this disk.

    Raises:
        InvalidInput: An argument or the dataset is unusable; nothing was released.
        RunStopped: The run cannot go on; finished work is kept.
    """
    make = partial(build_crafter, network=surrogate)
    check = partial(check_surrogate, settings=settings, network=surrogate)
    known = fingerprint(settings, surrogate)
    return run(
        source, destination, settings, make, reporter, fingerprint=known, check=check, engine=engine, private=private
    )


def run(
    source: Place | str,
    destination: Place | str,
    settings: ProtectSettings,
    make_crafter: MakeCrafter,
    reporter: Reporter = SILENT,
    *,
    fingerprint: str | None = None,
    check: Check = accept,
    engine: Engine | None = None,
    private: Path | None = None,
) -> ProtectReport:
    """Protect a dataset with any crafter; see `protect`.

    Args:
        make_crafter: Called once, after the plan is stored, and only if there are batches to craft.
        fingerprint: Identifies the weights behind the crafter; a run is only resumed with the same.
        check: Called with the dataset before any image is read, to refuse what the crafter could not work on.
        private: See `protect`.
    """
    started = time.monotonic()
    engine = engine or engine_on(settings.device)
    opened = open_to_release(source, destination, settings, check, threads=engine.threads, private=private)
    sidecar = opened.sidecar
    check_writable(sidecar)
    with stopping_cleanly(sidecar, reporter), sidecar.locked():
        plan = settle_plan(opened, fingerprint, reporter)
        job = _Job(plan, opened.dataset, settings, sidecar, engine, reporter)
        effort = _Effort()
        if was_published(sidecar, job.document()):
            verification = job.verify(sidecar.destination)
            _refuse_altered(verification, sidecar)
        else:
            with reproducing(plan.environment):
                effort = job.build(make_crafter)
            verification = job.verify(sidecar.building)
            craft_again(plan, sidecar, verification)
            write_document(sidecar.building, job.document())
            publish(sidecar)
        sidecar.tidy()
        return job.report(verification, effort, time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Effort:
    images: int = 0
    working_seconds: float = 0.0
    crafting_seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A planned run and the steps that it consists of."""

    plan: Plan
    dataset: Dataset
    settings: ProtectSettings
    sidecar: Sidecar
    engine: Engine
    reporter: Reporter

    def build(self, make_crafter: MakeCrafter) -> _Effort:
        """Bring the staged release to completion, whatever of it is there already."""
        if self.sidecar.building == self.sidecar.staging:
            if not self.sidecar.staging.exists():
                self.sidecar.forget_batches()
            self.sidecar.staging.mkdir(exist_ok=True)
        writer = self.dataset.writer(self.sidecar.building, self.sidecar.spool, self.settings.lossless)
        finished = self.sidecar.finished()
        pending = [batch for batch in range(self.plan.batches) if batch not in finished]
        effort = self._craft(pending, writer, make_crafter) if pending else _Effort()
        writer.assemble(self.plan.released())
        write_manifest(self.plan, self.sidecar)
        clear_partial(self.sidecar)
        return effort

    def _craft(self, pending: list[int], writer: Writer, make_crafter: MakeCrafter) -> _Effort:
        per_pixel = density(self.plan, self.dataset, writer, self.settings)
        built_here = self.sidecar.building == self.sidecar.staging
        needed = disk_bytes(self.plan, per_pixel, pending, built_here=built_here)
        check_room(self.sidecar.root, needed)
        place = self.sidecar.surrogate
        crafter = make_crafter(Materials(self.dataset, self.plan, self.settings, place, self.reporter, needed))
        work = Work(
            self.dataset,
            writer,
            crafter,
            levels(self.settings.eps),
            self.settings.seed,
            self.plan.environment,
            self.sidecar.root if built_here or self.plan.layout != "folder" else None,
        )
        images = int(self.plan.images_of_batches()[pending].sum())
        began = time.monotonic()
        self.reporter.start("Crafting", images, "images")
        crafting = self.engine.work_off(
            work, batches_of(self.plan, pending), partial(save_record, self.sidecar), self.reporter
        )
        self.reporter.finish()
        return _Effort(images, time.monotonic() - began, crafting)

    def document(self) -> ReleaseDocument:
        """State the public facts of the release."""
        plan = self.plan
        return ReleaseDocument(
            self.settings.eps, plan.images, len(plan.classes), plan.layout, unchanged=tuple(plan.faceless())
        )

    def verify(self, place: Place) -> Verification:
        """Compare the release in `place` with the source."""
        bound = Bound(self.settings.eps, "argument")
        return compare(self.dataset, open_dataset(place), bound, self.document(), self.reporter)

    def report(self, verification: Verification, effort: _Effort, seconds: float) -> ProtectReport:
        """Sum up what was done."""
        return ProtectReport(
            destination=self.sidecar.destination,
            sidecar=self.sidecar.root,
            layout=self.plan.layout,
            images=verification.images,
            classes=len(self.plan.classes),
            batches=self.plan.batches,
            crafted=effort.images,
            skipped=tuple(self.plan.skipped()),
            ignored=tuple(self.dataset.ignored()),
            quality=read_quality(self.sidecar),
            verification=verification,
            seconds=seconds,
            working_seconds=effort.working_seconds,
            crafting_seconds=effort.crafting_seconds,
        )


def _refuse_altered(verification: Verification, sidecar: Sidecar) -> None:
    if verification.passed:
        return
    first = verification.offenders[0]
    msg = (
        f"the release {sidecar.destination} was changed after it was published: {first.name} {first.problem}. "
        f"`withhold verify` names all {len(verification.offenders)} findings. Move your own files elsewhere; to have "
        f"the release made again, move it away as well."
    )
    raise InvalidInput(msg)
