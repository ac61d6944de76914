"""The steps after crafting that decide what becomes visible: giving up on bad work, and the one rename."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from withhold.data.atomic import DISK_FULL, sync_folder
from withhold.data.entries import TEXT, whole
from withhold.errors import InvalidInput, RunStopped
from withhold.progress import Reporter
from withhold.release.document import ReleaseDocument, read_document
from withhold.release.plan import SKIPPED, Plan
from withhold.release.reaching import holds_files
from withhold.release.sidecar import Sidecar
from withhold.release.verify import Verification


@contextmanager
def stopping_cleanly(sidecar: Sidecar, reporter: Reporter) -> Iterator[None]:
    """Turn a full disk into a message, and tell an interrupted user how to go on.

    Raises:
        RunStopped: Some write failed for want of space.
    """
    try:
        yield
    except KeyboardInterrupt:
        kept = f"Finished work is kept in {sidecar.root}; the same command goes on from there."
        reporter.say(f"Interrupted. {kept if sidecar.has_work() else 'Nothing was finished yet.'}")
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
    return (isinstance(error, OSError) and error.errno in DISK_FULL) or os.strerror(errno.ENOSPC) in str(error)


def was_published(sidecar: Sidecar, document: ReleaseDocument) -> bool:
    """Say whether the destination holds the finished release of this run.

    Raises:
        InvalidInput: It holds something else.
    """
    if not holds_files(sidecar.destination):
        return False
    if sidecar.building == sidecar.destination and read_document(sidecar.destination) is None:
        return False  # these are the files of one that is being built
    finished = sidecar.manifest.exists() and not sidecar.staging.exists()
    if not finished or read_document(sidecar.destination) != document:
        msg = f"the destination {sidecar.destination} holds files that are not of this release; move them away."
        raise InvalidInput(msg)
    return True


def craft_again(plan: Plan, sidecar: Sidecar, verification: Verification) -> None:
    """Stop if the staged release did not pass, and forget what is wrong in it, so that the next start makes it anew.

    What is not planned, as a file that something else put there, is named and left alone, and so are all batches.

    Raises:
        RunStopped: Something is wrong; nothing was published.
    """
    if verification.passed:
        return
    _forget_offending(plan, sidecar, verification)
    planned = pc.is_in(_names(verification), value_set=whole(plan.table.column("name"))).to_pylist()
    foreign = [offender for offender, known in zip(verification.offenders, planned, strict=True) if not known]
    first = (foreign or verification.offenders)[0]
    remedy = "run the same command again to craft these images anew."
    if foreign:
        remedy = f"remove from {sidecar.building} what does not belong there, and run the same command again."
    msg = (
        f"what was written did not pass verification, {len(verification.offenders)} findings: "
        f"{first.name} {first.problem}. Nothing was published; {remedy}"
    )
    raise RunStopped(msg)


def _names(verification: Verification) -> "pa.Array[Any]":
    return pa.array([offender.name for offender in verification.offenders], TEXT)


def _forget_offending(plan: Plan, sidecar: Sidecar, verification: Verification) -> None:
    sidecar.manifest.unlink(missing_ok=True)  # until it is written again, the release is not a finished one
    offending = plan.table.filter(pc.is_in(plan.table.column("name"), value_set=_names(verification)))
    for row in offending.select(["released_name", "shard", "batch"]).to_pylist():
        if row["batch"] != SKIPPED:
            sidecar.record(row["batch"]).unlink(missing_ok=True)
        for name in (row["released_name"], row["shard"]):
            (sidecar.building / name).unlink(missing_ok=True)


def clear_partial(sidecar: Sidecar) -> None:
    """Delete what killed starts left of files that they had not finished."""
    for partial in sidecar.staging.rglob(".*.partial"):
        partial.unlink()


def publish(sidecar: Sidecar) -> None:
    """Make the staged release appear at its destination by one rename.

    One that was built where it stays, in an object store, is published once it has its release.json.

    Raises:
        RunStopped: Somebody put files there meanwhile, or the rename is not possible.
    """
    if not isinstance(sidecar.destination, Path):
        return
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
    sync_folder(sidecar.destination.parent)
