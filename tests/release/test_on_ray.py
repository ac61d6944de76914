"""The engine on a real Ray cluster of this machine, started once, whose workers are really killed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.release.fakes import Listener, make_uniform, settings, tree
from tests.release.ray_crafters import Deadly, FailingTwice, FullDisk, KilledOnce, Stuck, Troubled
from tests.stores import Bucket, environment

from withhold.cluster import check_machines, check_reachable, check_room, joined
from withhold.data.place import place_of
from withhold.errors import InvalidInput, RunStopped
from withhold.release.engines.choose import device_of
from withhold.release.engines.on_ray import OnRay, facts
from withhold.release.engines.options import EngineOptions
from withhold.release.run import protect, run
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
Module = Any
"""Ray itself, which says nothing of its types."""

CHOSEN = ProtectSettings(batch_size=2, steps=2, epochs=1, architecture="resnet9", objective="alignment")


@pytest.fixture(scope="module")
def ray(s3_endpoint: str) -> Iterator[Module]:
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(s3_endpoint).items():  # the workers have what there was when Ray was started
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(ROOT))  # the workers import the crafters of the tests
        with joined(None, 4) as found:
            yield found


def on(ray: Module, workers: int) -> OnRay:
    return OnRay(ray, workers, 0.0)


def troubled(source: Path, tmp_path: Path, ray: Module, crafter: type[Troubled], workers: int = 2) -> Listener:
    listener = Listener()
    made = crafter(8 / 255, place=tmp_path)
    run(source, tmp_path / "out", settings(batch_size=2), lambda _: made, listener, engine=on(ray, workers))
    return listener


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_bytes_of_this_process(
    source: Path,
    tmp_path: Path,
    ray: Module,
    workers: int,
) -> None:
    """With a surrogate that is trained and a direction over the whole set, which travel to the workers."""
    report = protect(source, tmp_path / "ray", CHOSEN, engine=on(ray, workers))
    protect(source, tmp_path / "here", CHOSEN)
    assert report.crafted == 12
    assert tree(tmp_path / "ray") == tree(tmp_path / "here")


def test_two_workers_give_the_same_bytes_from_one_store_to_another(
    source: Path,
    tmp_path: Path,
    ray: Module,
    bucket: Bucket,
) -> None:
    there, out = bucket.put_tree("photos", source), f"{bucket.url}/out"
    check_machines(ray, facts, [place_of(there), place_of(out)])
    report = protect(there, out, CHOSEN, private=tmp_path / "private", engine=on(ray, 2))
    protect(source, tmp_path / "here", CHOSEN)
    assert report.crafted == 12
    assert bucket.tree("out") == tree(tmp_path / "here")


@pytest.mark.parametrize("crafter", [KilledOnce, FailingTwice])
def test_a_worker_killed_in_mid_batch_or_failing_storage_costs_nothing(
    source: Path,
    tmp_path: Path,
    ray: Module,
    crafter: type[Troubled],
) -> None:
    listener = troubled(source, tmp_path, ray, crafter)
    run(source, tmp_path / "untroubled", settings(batch_size=2), make_uniform)
    assert tree(tmp_path / "out") == tree(tmp_path / "untroubled")
    assert listener.counts["retries"] >= 1
    assert listener.advanced == 12  # every image once


def test_a_batch_that_kills_every_worker_stops_the_run_and_the_rest_is_kept(
    source: Path,
    tmp_path: Path,
    ray: Module,
) -> None:
    with pytest.raises(RunStopped, match=r"4 attempts at a batch with \w+/\d\.png failed"):
        troubled(source, tmp_path, ray, Deadly)
    finished = len(Sidecar(tmp_path / "out").finished())
    assert finished < 6
    report = run(source, tmp_path / "out", settings(batch_size=2), make_uniform)
    assert report.crafted == 12 - 2 * finished


def test_a_worker_that_gets_stuck_does_not_hold_back_the_rest(source: Path, tmp_path: Path, ray: Module) -> None:
    listener = troubled(source, tmp_path, ray, Stuck)
    run(source, tmp_path / "untroubled", settings(batch_size=2), make_uniform)
    assert tree(tmp_path / "out") == tree(tmp_path / "untroubled")
    assert listener.advanced == 12


def test_what_a_worker_refuses_stops_the_run_in_its_words(source: Path, tmp_path: Path, ray: Module) -> None:
    with pytest.raises(RunStopped, match=r"^no space left on the disk$"):
        troubled(source, tmp_path, ray, FullDisk)


def test_workers_that_cannot_start_are_said_to_fail(source: Path, tmp_path: Path, ray: Module) -> None:
    class Unknown(Troubled):
        def on(self, device: str) -> "Unknown":
            if device == "cpu" and self.place.name == "there":
                msg = "no such thing"
                raise ValueError(msg)
            return Unknown(self.eps, place=Path("there"))

    with pytest.raises(RunStopped, match=r"3 workers in a row failed to start, the last one with: .*no such thing"):
        troubled(source, tmp_path, ray, Unknown)


def test_machines_with_other_versions_are_refused(tmp_path: Path, ray: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    check_machines(ray, facts, [tmp_path])
    monkeypatch.setattr("withhold.cluster.__version__", "99")
    with pytest.raises(InvalidInput, match=r"has Withhold .*, not 99 \(1 findings\); every machine"):
        check_machines(ray, facts, [tmp_path])
    assert facts([tmp_path]) == {
        "Withhold": "99",
        "PyTorch": torch.__version__,
        str(tmp_path): "in its file system",
    }


def test_workers_that_do_not_see_the_results_are_refused(source: Path, tmp_path: Path, ray: Module) -> None:
    """On another machine the same path may be another folder; here the driver's file never appears."""
    touch = Path.touch

    def vanishing(path: Path, *args: Any, **options: Any) -> None:  # noqa: ANN401
        if path.suffix != ".partial":
            touch(path, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "touch", vanishing)
        with pytest.raises(InvalidInput, match=r"does not see .*out\.withhold; source and destination must"):
            run(source, tmp_path / "out", settings(), make_uniform, engine=on(ray, 1))


def test_room_on_a_cluster_is_counted_in_whole_workers() -> None:
    assert check_room({"CPU": 8.0}, 0) == 8
    assert check_room({"CPU": 8.0, "GPU": 2.0}, 0.5) == 4
    assert check_room({"CPU": 3.0, "GPU": 2.0}, 0.5) == 3
    assert check_room({"CPU": 2.0}, 0, least=2) == 2
    with pytest.raises(InvalidInput, match=r"each worker needs a processor and 1 GPUs, and the cluster has .* 0 GPUs"):
        check_room({"CPU": 8.0}, 1)
    with pytest.raises(InvalidInput, match=r"each worker needs a processor, .* room for 0, not for 1"):
        check_room({"CPU": 0.5}, 0)
    with pytest.raises(InvalidInput, match=r"each replica needs .* room for 2, not for 3"):
        check_room({"CPU": 2.0}, 0, least=3, kind="replica")


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:1", "http://127.0.0.1:6379", "127.0.0.1:99999999"])
def test_an_address_without_a_cluster_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="Ray cluster"):
        check_reachable(address)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"address": "auto"}, "--engine ray"),
        ({"workers": 2}, "--engine ray"),
        ({"gpus_per_worker": 1.0}, "--engine ray"),
        ({"name": "ray", "workers": 0}, "at least 1 worker"),
        ({"name": "ray", "gpus_per_worker": -1.0}, "a share of one GPU"),
        ({"name": "ray", "gpus_per_worker": float("nan")}, "a share of one GPU"),
        ({"name": "ray", "gpus_per_worker": 0.00001}, "a share of one GPU"),
        ({"name": "ray", "gpus_per_worker": 1.5}, "a share of one GPU"),
    ],
)
def test_options_that_mean_nothing_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        EngineOptions(**given)


def test_the_surrogate_is_trained_on_what_the_workers_compute_on() -> None:
    assert device_of(EngineOptions("ray"), ProtectSettings()) == "cpu"
    with pytest.raises(InvalidInput, match="'cuda' is not present"):
        device_of(EngineOptions("ray", gpus_per_worker=1), ProtectSettings())
    with pytest.raises(InvalidInput, match="workers with 1 GPUs compute on cuda"):
        device_of(EngineOptions("ray", gpus_per_worker=1), ProtectSettings(device="cpu"))
    with pytest.raises(InvalidInput, match="name one device"):
        device_of(EngineOptions("ray"), ProtectSettings(device="cpu,cpu"))
