"""The steps around crafting that decide what becomes visible: preparing, giving up on bad work, and the one rename."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow.compute as pc

from withhold.data.dataset import Dataset
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput, RunStopped
from withhold.release.document import ReleaseDocument, read_document
from withhold.release.entries import Entries
from withhold.release.places import holds_files
from withhold.release.plan import SKIPPED, Plan
from withhold.release.progress import Reporter
from withhold.release.scan import enumerate_some
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar
from withhold.release.verify import Verification

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def stopping_cleanly(sidecar: Sidecar, reporter: Reporter) -> Iterator[None]:
    """Turn a full disk into a message, and tell an interrupted user how to go on.

    Raises:
        RunStopped: Some write failed for want of space.
    """
    try:
        yield
    except KeyboardInterrupt:
        reporter.say(f"Interrupted. Finished work is kept in {sidecar.root}; the same command goes on from there.")
        raise
    except Exception as error:
        if not disk_is_full(error):
            raise
        msg = (
            f"no space left on the disk of {sidecar.root} ({error}). Finished batches are kept; make room, and run the "
            f"same command again to go on."
        )
        raise RunStopped(msg) from error


def disk_is_full(error: BaseException) -> bool:
    """Say whether an error means that a disk is full; libraries in other languages only say so in words."""
    return (isinstance(error, OSError) and error.errno in _FULL) or os.strerror(errno.ENOSPC) in str(error)


def prepare(plan: Plan, dataset: Dataset, settings: ProtectSettings, sidecar: Sidecar) -> None:
    """Refuse what the layout could not store, before any work: WebP for instance holds no greyscale.

    Raises:
        InvalidInput: Names the images, and the format to choose instead.
    """
    if settings.lossless == "png":
        return  # it holds everything
    writer = dataset.writer(sidecar.staging, sidecar.spool, settings.lossless)
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


def was_published(sidecar: Sidecar, document: ReleaseDocument) -> bool:
    """Say whether the destination holds the finished release of this run.

    Raises:
        InvalidInput: It holds something else.
    """
    if not holds_files(sidecar.destination):
        return False
    finished = sidecar.manifest.exists() and not sidecar.staging.exists()
    if not finished or read_document(sidecar.destination) != document:
        msg = f"the destination {sidecar.destination} holds files that are not of this release; move them away."
        raise InvalidInput(msg)
    return True


def craft_again(plan: Plan, sidecar: Sidecar, verification: Verification) -> None:
    """Stop if the staged release did not pass, and forget what is wrong in it, so that the next start makes it anew.

    Raises:
        RunStopped: Something is wrong; nothing was published.
    """
    if verification.passed:
        return
    offending = {offender.name for offender in verification.offenders}
    rows = [row for row, name in enumerate(plan.table.column("name").to_pylist()) if name in offending]
    for row in plan.table.select(["released_name", "shard", "batch"]).take(rows).to_pylist():
        if row["batch"] != SKIPPED:
            sidecar.record(row["batch"]).unlink(missing_ok=True)
        for name in (row["released_name"], row["shard"]):
            (sidecar.staging / name).unlink(missing_ok=True)
    if not rows:
        sidecar.forget_batches()
    first = verification.offenders[0]
    msg = (
        f"what was written did not pass verification, {len(verification.offenders)} findings: "
        f"{first.name} {first.problem}. Nothing was published; run the same command again to craft these images anew."
    )
    raise RunStopped(msg)


def publish(sidecar: Sidecar) -> None:
    """Make the staged release appear at its destination by one rename.

    Raises:
        RunStopped: Somebody put files there meanwhile, or the rename is not possible.
    """
    for partial in sidecar.staging.rglob(".*.partial"):
        partial.unlink()
    try:
        if sidecar.destination.is_dir():
            sidecar.destination.rmdir()
        sidecar.staging.replace(sidecar.destination)
    except OSError as error:
        msg = (
            f"cannot move the finished release to {sidecar.destination}: {error.strerror}. It is whole in "
            f"{sidecar.staging}; clear the way and run the same command again."
        )
        raise RunStopped(msg) from error
    _sync(sidecar)


def _sync(sidecar: Sidecar) -> None:
    if os.name == "posix":  # only there can a folder be opened to make a rename durable
        descriptor = os.open(sidecar.destination.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
