"""Replicas without a cluster: what one does with what came together, and what the front does when one is lost."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.online.protectors import tiny
from tests.online.service.fakes import ABOUT, png, released
from typer.testing import CliRunner

from withhold.cli.main import app
from withhold.data.pixels import UnreadableImage
from withhold.errors import InvalidInput, RunStopped
from withhold.online.image import Accepted
from withhold.online.protector import Protector, Released
from withhold.online.service.crafting import QueueFull, Stopping
from withhold.online.service.settings import ServiceSettings
from withhold.online.settings import SpeedName

ray_exceptions = pytest.importorskip("ray.exceptions")
replicas = pytest.importorskip("withhold.online.service.replicas")


@pytest.fixture(scope="module")
def protector(tmp_path_factory: pytest.TempPathFactory) -> Protector:
    return Protector.load(tiny(tmp_path_factory.mktemp("replica") / "protector"))


def wanted(content: bytes, label: str | None = "cat", speed: SpeedName = "instant") -> Any:  # noqa: ANN401 - lazily imported
    return replicas.Wanted(content, label, speed)


def test_images_that_came_together_come_out_as_alone_and_fail_alone(protector: Protector) -> None:
    together = [
        wanted(png(1)),
        wanted(b"no image"),
        wanted(png(2), "dog", "quick"),
        wanted(png(3), "cow"),
        wanted(png(4, 18, 31), None),
    ]
    found = replicas.outcomes(protector, together)
    assert found[0].result.content == protector.protect(png(1), "cat", speed="instant").content
    assert isinstance(found[1].result, UnreadableImage)
    assert found[2].result.content == protector.protect(png(2), "dog", speed="quick").content
    assert isinstance(found[3].result, InvalidInput)
    assert found[4].result.content == protector.protect(png(4, 18, 31), speed="instant").content
    assert [outcome.batch for outcome in found] == [5, None, None, None, None]


def test_a_result_that_is_not_fit_costs_its_own_image_only(
    protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = protector.protect_accepted
    bad = protector.accept(png(2)).sha256

    def protect(images: Sequence[Accepted], *, speed: SpeedName) -> list[Released]:
        if any(image.sha256 == bad for image in images):
            msg = "not fit"
            raise RunStopped(msg)
        return sound(images, speed=speed)

    monkeypatch.setattr(protector, "protect_accepted", protect)
    found = replicas.outcomes(protector, [wanted(png(seed)) for seed in (1, 2, 3)])
    assert [type(outcome.result) for outcome in found] == [Released, RunStopped, Released]


class Handle:
    """A deployment whose replicas are lost as often as the test says."""

    def __init__(self, lost: int = 0, fault: Exception | None = None) -> None:
        self.lost, self.fault, self.asked = lost, fault, 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.protect = self.fingerprint = self

    async def remote(self, given: Any = None) -> Any:  # noqa: ANN401 - Ray's own interface
        self.asked += 1
        await self.gate.wait()
        if self.asked <= self.lost:
            raise ray_exceptions.RayActorError
        if given is None:
            return "fingerprint"
        result = self.fault or released(given.content, given.label, given.speed)
        return replicas.Outcome(result, 3, 0.5)


def front(handle: Handle, sizes: list[int], **settings: int) -> Any:  # noqa: ANN401 - lazily imported
    return replicas.Replicated(handle, ABOUT, ServiceSettings(**settings), sizes.append)


def test_an_image_goes_to_another_replica_when_its_own_is_lost() -> None:
    handle, sizes = Handle(lost=2), list[int]()
    found = asyncio.run(front(handle, sizes).protect(png(), "cat", "full"))
    assert found.content == released(png(), "cat", "full").content
    assert (handle.asked, sizes) == (3, [3])


def test_without_replicas_an_image_is_handed_back_and_the_service_is_not_ready() -> None:
    with pytest.raises(Stopping):
        asyncio.run(front(Handle(lost=100), []).protect(png(), None, "full"))
    with pytest.raises(Stopping):
        asyncio.run(front(Handle(lost=100), []).check())
    asyncio.run(front(Handle(), []).check())


def test_an_image_that_fails_in_a_replica_fails_with_its_own_error() -> None:
    with pytest.raises(RunStopped, match="not fit"):
        asyncio.run(front(Handle(fault=RunStopped("not fit")), []).protect(png(), None, "full"))


def test_the_front_bounds_what_waits() -> None:
    async def scene() -> None:
        handle = Handle()
        handle.gate.clear()
        crafting = front(handle, [], max_queue=1)
        first = asyncio.create_task(crafting.protect(png(1), None, "full"))
        while not handle.asked:
            await asyncio.sleep(0)
        assert crafting.waiting() == 1
        with pytest.raises(QueueFull):
            await crafting.protect(png(2), None, "full")
        handle.gate.set()
        await first
        assert crafting.waiting() == 0

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1: .*refused"),
        ("ray://head:10001", "is no address of a Ray cluster"),
        ("head", "is no address of a Ray cluster"),
    ],
)
def test_an_unreachable_cluster_is_refused_at_once(address: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        replicas.check_reachable(address)


def test_options_of_ray_without_ray_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["serve", str(tiny(tmp_path / "protector")), "--replicas", "2"])
    assert done.exit_code == 2
    assert "give --engine ray too" in done.output
