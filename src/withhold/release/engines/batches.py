"""One batch of a plan on its way from stored originals to stored results: what every engine does with it."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from withhold.data.dataset import Dataset, Entry, Writer
from withhold.data.entries import Entries
from withhold.data.pixels import Picture, change
from withhold.data.quality import psnr, ssim
from withhold.errors import RunStopped
from withhold.progress import Reporter
from withhold.release.crafting import Crafted, Crafter, Shown, untouched
from withhold.release.environment import Environment
from withhold.release.plan import Plan
from withhold.seeds import derive_seed


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a plan says of one batch; all that an engine needs to know of the plan.

    Attributes:
        rows: Of the plan.
        digests: SHA-256 of the stored bytes when the run was planned.
        shown: What each image shows.
    """

    number: int
    rows: tuple[int, ...]
    entries: tuple[Entry, ...]
    digests: tuple[bytes, ...]
    shown: tuple[Shown, ...]

    @property
    def name(self) -> str:
        """Name it for messages, by an image that is in no other batch."""
        return f"a batch with {self.entries[0].name}"

    @property
    def faceless(self) -> bool:
        """Whether its images were planned to be released unchanged; the plan puts such images together."""
        return not any(show != () for show in self.shown)


class Record(NamedTuple):
    """What is kept of each image of a finished batch, as the columns of `manifest.MEASURED`."""

    rows: Sequence[int]
    released_sha256: Sequence[str]
    largest_change: Sequence[float]
    psnr: Sequence[float]
    ssim: Sequence[float]
    loss: Sequence[float]
    alignment: Sequence[float]
    sign_agreement: Sequence[float | None]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What the batches of a run share; it can be sent to other processes.

    Attributes:
        bound: Largest change of a channel, in levels of 8 bit.
        seed: The run's seed; each batch derives its own.
        environment: How to compute.
        shared: Folder that whoever works must see, as results are kept there; None if they go to an object store.
    """

    dataset: Dataset
    writer: Writer
    crafter: Crafter
    bound: int
    seed: int
    environment: Environment
    shared: Path | None

    def load(self, batch: Batch, codec: ThreadPoolExecutor) -> list[Picture]:
        """Read and decode the originals. One thread at a time.

        Raises:
            RunStopped: An image changed since it was planned, or cannot be read any more.
        """
        stored = list(self.dataset.read(batch.entries))
        for entry, content, digest in zip(batch.entries, stored, batch.digests, strict=True):
            if hashlib.sha256(content).digest() != digest:
                msg = f"{entry.name} has changed since the run began; restore it, and run the same command again."
                raise RunStopped(msg)
        return list(codec.map(self.dataset.decode, stored))

    def craft(self, batch: Batch, pictures: Sequence[Picture]) -> Crafted:
        """Craft the perturbations.

        Raises:
            RunStopped: A number is not finite; the message names the image.
        """
        if batch.faceless:
            return untouched(pictures)
        crafted = self.crafter(pictures, batch.shown, derive_seed(self.seed, "batch", batch.number))
        check_finite(batch, crafted)
        return crafted

    def store(self, batch: Batch, pictures: Sequence[Picture], crafted: Crafted, codec: ThreadPoolExecutor) -> Record:
        """Encode, measure and write the results; when this returns, they are on disk.

        Raises:
            RunStopped: An image came out unchanged, or the disk is full.
        """
        after = list(codec.map(Picture.perturbed, pictures, crafted.deltas, repeat(self.bound)))
        encoded = codec.map(self.writer.encode, batch.entries, after)
        measured = codec.map(_measure, batch.entries, pictures, after, batch.shown)
        similarity = ssim(pictures, after)
        stored = list(zip(batch.entries, encoded, strict=True))
        changes, likeness = zip(*measured, strict=True)
        self.writer.write(batch.number, stored)
        return Record(
            rows=batch.rows,
            released_sha256=[hashlib.sha256(content).hexdigest() for _, content in stored],
            largest_change=changes,
            psnr=likeness,
            ssim=similarity,
            loss=crafted.losses,
            alignment=crafted.alignments,
            sign_agreement=[crafted.sign_agreement] * len(stored),
        )


Finish = Callable[[int, Record], None]
"""Called once for each batch that is stored, with its number; safe to be called in any thread."""


class Engine(Protocol):
    """Works off batches. Results depend on neither the engine nor the order.

    Attributes:
        threads: Of each process that crafts by a new plan, where the engine has a say; see `Environment.here`.
    """

    @property
    def threads(self) -> int | None: ...  # noqa: D102 - above

    def work_off(self, work: Work, batches: Iterable[Batch], finish: Finish, reporter: Reporter) -> float:
        """Craft and store batches, and call `finish` for each one that is stored.

        Args:
            reporter: Told of the images that are finished; its task is begun and ended by the caller.

        Returns:
            Seconds of crafting, summed over all workers.

        Raises:
            RunStopped: The work cannot go on.
        """
        ...


def batches_of(plan: Plan, numbers: Iterable[int]) -> Iterator[Batch]:
    """Yield batches of a plan, each made when it is asked for."""
    rows_of, entries = plan.rows_of_batches(), Entries(plan.table)
    digests = plan.table.column("sha256")
    for number in numbers:
        rows = rows_of[number]
        yield Batch(
            number,
            tuple(rows.tolist()),
            tuple(entries.take(rows)),
            tuple(bytes(digest) for digest in digests.take(rows).to_pylist() if digest is not None),
            tuple(plan.shown(rows)),
        )


def check_finite(batch: Batch, crafted: Crafted) -> None:
    """Refuse perturbations that cannot be released.

    Raises:
        RunStopped: A number is not finite; the message names the image.
    """
    counts = {len(batch.entries), len(crafted.deltas), len(crafted.losses), len(crafted.alignments)}
    assert len(counts) == 1, f"{len(batch.entries)} pictures, but {counts} results"
    for entry, delta in zip(batch.entries, crafted.deltas, strict=True):
        if not np.isfinite(delta).all():
            msg = (
                f"crafting {entry.name} gave numbers that are not finite; check the surrogate, or lower the step size."
            )
            raise RunStopped(msg)


def _measure(entry: Entry, before: Picture, after: Picture, shown: Shown) -> tuple[float, float]:
    largest = float(change(before, after).max())
    if largest == 0 and shown != ():
        msg = (
            f"crafting left {entry.name} unchanged, and it would be released unprotected; "
            f"start over with more steps, another surrogate or a random start."
        )
        raise RunStopped(msg)
    return largest, round(psnr(before, after), 4)
