import io
import os
import signal
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.data.test_cifar import cifar10, cifar100
from tests.release.fakes import Listener, UniformCrafter, class_folders, make_uniform, pixels, png, settings, tree
from tests.release.test_crash import parquet_shards

from withhold.data.pixels import Picture
from withhold.errors import InvalidInput, RunStopped
from withhold.release.crafting import Crafted, Shown
from withhold.release.engines.choose import engine_on
from withhold.release.engines.local import Local
from withhold.release.engines.processes import Processes
from withhold.release.run import protect, run
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar

pytestmark = pytest.mark.long

CHOSEN = ProtectSettings(batch_size=2, steps=2, epochs=1, architecture="resnet9", objective="alignment")


class Dying(UniformCrafter):
    """Ends its process at one batch, the one with this seed."""

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        if not self.calls:
            self.calls.append(seed)
            return super().__call__(pictures, shown, seed)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass
class Broken(UniformCrafter):
    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        crafted = super().__call__(pictures, shown, seed)
        crafted.deltas[0][0, 0, 0] = float("nan")
        return crafted


def test_two_processes_give_the_bytes_of_one(source: Path, tmp_path: Path) -> None:
    """With a surrogate that is trained and a direction over the whole set, which both travel."""
    one, two = tmp_path / "one", tmp_path / "two"
    protect(source, one, CHOSEN)
    listener = Listener()
    report = protect(source, two, CHOSEN.model_copy(update={"device": "cpu,cpu"}), reporter=listener)
    assert tree(one) == tree(two)
    assert ("Crafting", 12) in listener.tasks
    assert report.crafted == 12
    manifests = [(Sidecar(place).manifest).read_bytes() for place in (one, two)]
    assert manifests[0] == manifests[1]


def tar_shards(root: Path) -> Path:
    root.mkdir()
    for shard in range(2):
        with tarfile.open(root / f"{shard}.tar", "w") as target:
            for row in range(5):
                for name, content in ((f"{row}.png", png(pixels(10 * shard + row))), (f"{row}.cls", b"%d" % (row % 2))):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    target.addfile(member, io.BytesIO(content))
    return root


@pytest.mark.parametrize("layout", [class_folders, parquet_shards, tar_shards, cifar10, cifar100])
def test_every_layout_can_be_read_and_written_by_several_processes(
    tmp_path: Path, layout: Callable[[Path], Path]
) -> None:
    source = layout(tmp_path / "source")
    run(source, tmp_path / "one", settings(), make_uniform)
    run(source, tmp_path / "two", settings(device="cpu,cpu"), make_uniform)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_run_begun_by_one_process_is_continued_by_two(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "one", settings(batch_size=2), make_uniform)
    with pytest.raises(RunStopped, match="killed"):
        run(source, tmp_path / "two", settings(batch_size=2), lambda _: Dying(8 / 255), engine=Processes(["cpu"]))
    finished = len(Sidecar(tmp_path / "two").finished())
    assert finished <= 1
    report = run(source, tmp_path / "two", settings(batch_size=2, device="cpu,cpu,cpu"), make_uniform)
    assert report.crafted == 12 - 2 * finished
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_what_one_process_finds_wrong_stops_the_run_in_words(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match=r"crafting \w+/\d\.png gave numbers that are not finite"):
        run(source, tmp_path / "out", settings(device="cpu,cpu"), lambda _: Broken(8 / 255))
    assert not (tmp_path / "out").exists()


def test_more_processes_than_batches_are_no_harm(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "out", settings(batch_size=12, device="cpu,cpu"), make_uniform)
    assert report.batches == 1
    assert report.crafted == 12


def test_devices_choose_the_engine() -> None:
    assert isinstance(engine_on("cpu"), Local)
    assert isinstance(engine_on("cpu, cpu"), Processes)
    with pytest.raises(InvalidInput, match="'cuda:99' is not present"):
        engine_on("cpu,cuda:99")
