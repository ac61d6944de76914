"""What happens to a run on a cluster when a machine is removed, or when the driver itself is killed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.online.service.serving import ROOT, until
from tests.release.fakes import Listener, class_folders, make_uniform, settings, tree
from tests.release.ray_crafters import Gated

from withhold.cluster import library
from withhold.release.engines.on_ray import OnRay
from withhold.release.run import protect, run
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar

pytestmark = pytest.mark.long

CHOSEN = ProtectSettings(batch_size=2, steps=2, epochs=1, architecture="resnet9", device="cpu")


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A head without processors and two machines with one each, all of them on this one."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ray = library()
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(cluster.address, log_to_driver=False)
        yield ray, lambda: cluster.remove_node(nodes[0])
    finally:
        ray.shutdown()
        cluster.shutdown()


@dataclass
class Removing(Listener):
    """Removes a machine as soon as both are at work, and then lets them craft."""

    place: Path = Path()
    remove: Callable[[], None] | None = None
    workers: list[int] = field(default_factory=list)

    def status(self, **counts: int) -> None:
        super().status(**counts)
        self.workers.append(counts["workers"])
        if counts["workers"] == 2 and self.remove is not None:
            self.remove()
            self.remove = None
            (self.place / "go").touch()


def test_a_run_survives_the_loss_of_a_machine(tmp_path: Path, two_machines: tuple[Any, Callable[[], None]]) -> None:
    ray, remove = two_machines
    source = class_folders(tmp_path / "photos")
    listener = Removing(place=tmp_path, remove=remove)
    crafter = Gated(8 / 255, place=tmp_path)
    run(source, tmp_path / "out", settings(batch_size=1), lambda _: crafter, listener, engine=OnRay(ray, 2, 0.0))
    run(source, tmp_path / "untroubled", settings(batch_size=1), make_uniform)
    assert max(listener.workers) == 2
    assert listener.workers[-1] == 1, "there is one machine left"
    assert listener.counts["retries"] >= 1
    assert listener.advanced == 12
    assert tree(tmp_path / "out") == tree(tmp_path / "untroubled")


def test_a_driver_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    source = class_folders(tmp_path / "photos", 20)
    out = tmp_path / "out"
    options = ["--batch-size", "2", "--steps", "2", "--epochs", "1", "--architecture", "resnet9", "--quiet"]
    command = [str(Path(sys.executable).with_name("withhold")), "protect", str(source), str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen([*command, "--engine", "ray", "--workers", "2"], env=environment)
    try:
        until(Sidecar(out).finished, "a finished batch")
    finally:
        driver.kill()
        driver.wait()
    finished = len(Sidecar(out).finished())
    assert 0 < finished < 30
    subprocess.run([*command, "--engine", "ray", "--workers", "1"], env=environment, check=True, timeout=300)
    protect(source, tmp_path / "here", CHOSEN)
    assert tree(out) == tree(tmp_path / "here")
