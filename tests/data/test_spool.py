from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from withhold.data.dataset import Entry
from withhold.data.pixels import Picture
from withhold.data.spool import ShardImages, ShardWriter
from withhold.errors import RunStopped


def entry(shard: str, row: int) -> Entry:
    return Entry(f"{shard}#{row}", 0, shard, row)


class Rebuilding:
    """Writes the rows of a shard and their contents one after the other."""

    def __init__(self) -> None:
        self.shards: list[str] = []

    def __call__(self, shard: str, images: ShardImages, file: BinaryIO) -> None:
        self.shards.append(shard)
        for row in images.rows:
            file.write(b"%d=%b;" % (row, images[int(row)]))


def writer(folder: Path, rebuild: Rebuilding) -> ShardWriter:
    def encode(_: Entry, picture: Picture) -> bytes:
        return picture.levels.tobytes()

    (folder / "meta").write_bytes(b"notes")
    return ShardWriter(folder, folder / "out", folder / "spool", ["a", "x/b"], encode, rebuild, ["meta"])


def test_shards_are_built_from_batches_in_any_order(tmp_path: Path) -> None:
    rebuild = Rebuilding()
    made = writer(tmp_path, rebuild)
    made.write(1, [(entry("x/b", 0), b"four"), (entry("a", 2), b"")])
    made.write(0, [(entry("a", 1), b"two"), (entry("a", 0), b"one"), (entry("a", 9), b"left out")])
    entries = [entry("a", 0), entry("a", 1), entry("a", 2), entry("x/b", 0)]
    made.assemble(entries)
    assert (tmp_path / "out/a").read_bytes() == b"0=one;1=two;2=;"
    assert (tmp_path / "out/x/b").read_bytes() == b"0=four;"
    assert (tmp_path / "out/meta").read_bytes() == b"notes"
    made.assemble(entries)
    assert rebuild.shards == ["a", "x/b"]


def test_an_assembly_that_was_killed_goes_on_with_the_next_shard(tmp_path: Path) -> None:
    rebuild = Rebuilding()
    made = writer(tmp_path, rebuild)
    made.write(0, [(entry("a", 0), b"one"), (entry("x/b", 0), b"two")])
    made.assemble([entry("a", 0), entry("x/b", 0)])
    (tmp_path / "out/x/b").unlink()
    made.assemble([entry("a", 0), entry("x/b", 0)])
    assert rebuild.shards == ["a", "x/b", "x/b"]


def test_batches_that_are_gone_stop_the_run(tmp_path: Path) -> None:
    made = writer(tmp_path, Rebuilding())
    made.write(0, [(entry("a", 0), b"one")])
    with pytest.raises(RunStopped, match="1 finished images of a are gone, the first of row 3"):
        made.assemble([entry("a", 0), entry("a", 3)])
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_encoding_is_the_layouts(tmp_path: Path) -> None:
    made = writer(tmp_path, Rebuilding())
    assert made.encode(entry("a", 0), Picture(np.array([[[7]]], np.uint8))) == b"\x07"


def test_a_source_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    made = writer(tmp_path, Rebuilding())
    made.write(0, [(entry("a", 0), b"one"), (entry("x/b", 0), b"two")])
    (tmp_path / "meta").unlink()
    with pytest.raises(RunStopped, match=r"cannot build the release of .*meta"):
        made.assemble([entry("a", 0), entry("x/b", 0)])
