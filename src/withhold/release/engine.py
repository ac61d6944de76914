"""Working off a plan on one machine: reading ahead, crafting, and writing behind, all at once.

Crafting stays in the calling thread. One thread reads and decodes the next batches, one encodes, writes and records the
finished ones, and both share a pool that decodes and encodes. Another engine needs the same arguments and nothing else.
"""

import hashlib
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from withhold.data.dataset import Dataset, Entry, Writer
from withhold.data.entries import Entries, Rows
from withhold.data.parallel import THREADS
from withhold.data.pixels import Picture, change
from withhold.data.quality import psnr, ssim
from withhold.errors import RunStopped
from withhold.progress import Reporter
from withhold.release.crafting import Crafted, Crafter, Shown, untouched
from withhold.release.manifest import save_record
from withhold.release.plan import Plan
from withhold.release.sidecar import Sidecar
from withhold.seeds import derive_seed

AHEAD, BEHIND = 2, 2
"""Batches that are read before they are crafted, and crafted ones that may wait to be written."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What every batch of a run shares.

    Attributes:
        bound: Largest change of a channel, in levels of 8 bit.
        seed: The run's seed; each batch derives its own.
    """

    plan: Plan
    dataset: Dataset
    writer: Writer
    sidecar: Sidecar
    bound: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One batch on its way: its number, the rows of the plan, the decoded pictures and what they show."""

    number: int
    rows: Rows
    entries: Sequence[Entry]
    pictures: Sequence[Picture]
    shown: Sequence[Shown]

    @property
    def faceless(self) -> bool:
        """Whether its pictures were planned to be released unchanged; the plan puts such pictures together."""
        return not any(show != () for show in self.shown)


def craft_batches(work: Work, pending: Sequence[int], crafter: Crafter, reporter: Reporter) -> float:
    """Craft and write the pending batches, and record each one once it is written.

    An exception of any thread ends the work and is raised here. After an interrupt, crafted batches are still written.

    Returns:
        Seconds spent in `crafter`.

    Raises:
        RunStopped: An image changed since it was planned, or crafting gave something that cannot be released.
    """
    rows_of = work.plan.rows_of_batches()
    entries = Entries(work.plan.table)
    todo = iter(pending)
    seconds = 0.0
    with _Threads(work) as threads:
        ahead: deque[Future[Batch]] = deque()
        behind: deque[Future[int]] = deque()
        for number in pending:
            while len(ahead) <= AHEAD and (following := next(todo, None)) is not None:
                ahead.append(threads.read(following, rows_of[following], entries))
            batch = ahead.popleft().result()
            started = time.monotonic()
            seed = derive_seed(work.seed, "batch", number)
            crafted = untouched(batch.pictures) if batch.faceless else crafter(batch.pictures, batch.shown, seed)
            seconds += time.monotonic() - started
            behind.append(threads.write(batch, crafted))
            while len(behind) > BEHIND or (behind and behind[0].done()):
                reporter.advance(behind.popleft().result())
        for written in behind:
            reporter.advance(written.result())
    return seconds


class _Threads:
    """One reading thread, one writing thread, and a pool that both use."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._codec = ThreadPoolExecutor(THREADS, "withhold-codec")
        self._reading = ThreadPoolExecutor(1, "withhold-read")
        self._writing = ThreadPoolExecutor(1, "withhold-write")
        self._handed_over: list[Future[int]] = []

    def __enter__(self) -> "_Threads":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._reading.shutdown(wait=False, cancel_futures=True)
        if kind is KeyboardInterrupt:
            wait(self._handed_over)
        for pool in (self._reading, self._writing, self._codec):
            pool.shutdown(cancel_futures=True)

    def read(self, number: int, rows: Rows, entries: Entries) -> Future[Batch]:
        return self._reading.submit(self._load, number, rows, entries)

    def write(self, batch: Batch, crafted: Crafted) -> Future[int]:
        self._handed_over = [each for each in self._handed_over if not each.done()]
        self._handed_over.append(self._writing.submit(self._store, batch, crafted))
        return self._handed_over[-1]

    def _load(self, number: int, rows: Rows, entries: Entries) -> Batch:
        chosen = list(entries.take(rows))
        stored = list(self._work.dataset.read(chosen))
        planned = self._work.plan.table.column("sha256").take(rows).to_pylist()
        for entry, content, digest in zip(chosen, stored, planned, strict=True):
            if hashlib.sha256(content).digest() != digest:
                msg = f"{entry.name} has changed since the run began; restore it, and run the same command again."
                raise RunStopped(msg)
        pictures = list(self._codec.map(self._work.dataset.decode, stored))
        return Batch(number, rows, chosen, pictures, self._work.plan.shown(rows))

    def _store(self, batch: Batch, crafted: Crafted) -> int:
        check_crafted(batch, crafted)
        after = list(self._codec.map(Picture.perturbed, batch.pictures, crafted.deltas, repeat(self._work.bound)))
        encoded = self._codec.map(self._work.writer.encode, batch.entries, after)
        measured = self._codec.map(_measure, batch.entries, batch.pictures, after, batch.shown)
        similarity = ssim(batch.pictures, after)
        stored = list(zip(batch.entries, encoded, strict=True))
        changes = list(measured)
        self._work.writer.write(batch.number, stored)
        columns = (
            batch.rows.tolist(),
            [hashlib.sha256(content).hexdigest() for _, content in stored],
            *zip(*changes, strict=True),
            similarity,
            crafted.losses,
            crafted.alignments,
            repeat(crafted.sign_agreement, len(stored)),
        )
        save_record(self._work.sidecar, batch.number, columns)
        return len(stored)


def check_crafted(batch: Batch, crafted: Crafted) -> None:
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
