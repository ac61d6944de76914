import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.release.fakes import Listener, UniformCrafter, make_uniform, settings

from withhold.data.dataset import Entry
from withhold.data.folder import FolderDataset, FolderWriter
from withhold.data.pixels import Picture
from withhold.release.crafting import Crafted, Shown
from withhold.release.engines.local import AHEAD, BEHIND
from withhold.release.run import run

PATIENCE = 60
"""Seconds after which a test gives up on another thread; it passes as soon as that thread did its part."""


def test_reading_and_writing_go_on_while_a_batch_is_crafted(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, read_on = threading.Event(), threading.Event()
    loads: list[str] = []
    write, read = FolderWriter.write, FolderDataset.read

    def noting_write(self: FolderWriter, batch: int, images: Sequence[tuple[Entry, bytes]]) -> None:
        write(self, batch, images)
        written.set()

    def noting_read(self: FolderDataset, entries: Sequence[Entry]) -> Iterator[bytes]:
        if threading.current_thread().name.startswith("withhold-read"):
            loads.append(entries[0].name)
            if len(loads) == 3:
                read_on.set()
        return read(self, entries)

    class Waiting(UniformCrafter):
        def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
            if len(self.calls) == 1:  # the second batch is being crafted
                assert written.wait(PATIENCE), "the first batch was not written meanwhile"
                assert read_on.wait(PATIENCE), "the third batch was not read meanwhile"
            return super().__call__(pictures, shown, seed)

    monkeypatch.setattr(FolderWriter, "write", noting_write)
    monkeypatch.setattr(FolderDataset, "read", noting_read)
    report = run(source, tmp_path / "out", settings(), lambda _: Waiting(8 / 255))
    assert report.batches == 3


def test_only_a_few_batches_are_in_memory(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    counts = {"read": 0, "crafted": 0}
    lock = threading.Lock()
    read = FolderDataset.read

    def noting_read(self: FolderDataset, entries: Sequence[Entry]) -> Iterator[bytes]:
        with lock:
            if threading.current_thread().name.startswith("withhold-read"):
                counts["read"] += 1
                held.append(counts["read"] - counts["crafted"])
        return read(self, entries)

    class Counting(UniformCrafter):
        def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
            crafted = super().__call__(pictures, shown, seed)
            with lock:
                counts["crafted"] += 1
            return crafted

    monkeypatch.setattr(FolderDataset, "read", noting_read)
    report = run(source, tmp_path / "out", settings(batch_size=1), lambda _: Counting(8 / 255))
    assert report.batches == 12
    assert max(held) <= AHEAD + 1
    assert BEHIND == 2


def test_progress_counts_every_image_once(source: Path, tmp_path: Path) -> None:
    listener = Listener()  # its `finish` compares the sum with the total of each task
    run(source, tmp_path / "out", settings(batch_size=5), make_uniform, listener)
    assert ("Crafting", 12) in listener.tasks


def test_each_batch_has_a_seed_of_its_own(source: Path, tmp_path: Path) -> None:
    crafter = UniformCrafter(8 / 255)
    run(source, tmp_path / "out", settings(), lambda _: crafter)
    assert len(set(crafter.calls)) == 3
