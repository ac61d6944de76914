"""Replicas without a cluster: what one does with what came together, and what the front does when one is lost."""

import asyncio
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.online.protectors import tiny
from tests.online.service.fakes import ABOUT, encoded, png, released, running, upload
from tests.tools import package

from withhold.errors import InvalidInput, RunStopped
from withhold.online.folder import read_folder
from withhold.online.image import Accepted
from withhold.online.protector import Protector, Released
from withhold.online.service.crafting import QueueFull, Stopping
from withhold.online.service.logs import Log
from withhold.online.service.problems import Problem, problem_of
from withhold.online.service.routes import health
from withhold.online.service.settings import ServiceSettings
from withhold.online.settings import SpeedName

ray_exceptions = package("ray.exceptions")
replicas = package("withhold.online.service.replicas")


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
    found = replicas.outcomes(protector, together, Log(io.StringIO()))
    assert found[0].result.content == protector.protect(png(1), "cat", speed="instant").content
    assert found[1].result.reason == "unreadable-image"
    assert found[2].result.content == protector.protect(png(2), "dog", speed="quick").content
    assert found[3].result.reason == "invalid-input"
    assert found[4].result.content == protector.protect(png(4, 18, 31), speed="instant").content
    assert [outcome.batch for outcome in found] == [5, None, None, None, None]
    assert found[0].result.picture is replicas.UNSENT  # the file has it already


@pytest.mark.parametrize(("content", "label"), [(b"no image", None), (png()[:-30], None), (png(3), "cow")])
def test_what_is_refused_in_a_replica_is_told_as_here(protector: Protector, content: bytes, label: str | None) -> None:
    with pytest.raises(InvalidInput) as here:
        protector.accept(content, label)
    [found] = replicas.outcomes(protector, [wanted(content, label)], Log(io.StringIO()))
    problem = pickle.loads(pickle.dumps(found)).result
    assert (problem.details(), problem.headers) == (problem_of(here.value).details(), {})


def test_an_image_that_breaks_the_decoder_costs_itself_only(
    protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = protector.accept

    def accept(image: bytes, label: str | None = None) -> Accepted:
        if image == png(2):
            raise MemoryError
        return sound(image, label)

    monkeypatch.setattr(protector, "accept", accept)
    log = io.StringIO()
    found = replicas.outcomes(protector, [wanted(png(seed)) for seed in (1, 2, 3)], Log(log))
    assert [type(outcome.result) for outcome in found] == [Released, Problem, Released]
    assert found[1].result.internal
    assert "MemoryError" in log.getvalue()


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
    log = io.StringIO()
    found = replicas.outcomes(protector, [wanted(png(seed)) for seed in (1, 2, 3)], Log(log))
    assert [type(outcome.result) for outcome in found] == [Released, RunStopped, Released]
    assert "not fit" in log.getvalue()


def test_a_picture_that_cannot_be_changed_is_no_fault_of_the_service(
    protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protector, "craft", lambda *_: [np.full((3, 1, 2), -1, np.float32)])
    log = io.StringIO()
    [found] = replicas.outcomes(protector, [wanted(encoded("PNG", np.zeros((1, 2, 3), np.uint8)))], Log(log))
    assert (found.result.status, found.result.reason, log.getvalue()) == (422, "unchangeable", "")


def test_a_replica_leaves_no_file_of_the_protector_behind(
    protector: Protector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = read_folder(tiny(tmp_path / "protector"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(replicas.tempfile, "tempdir", str(temporary))

    async def scene() -> list[Any]:
        replica = replicas.Replica(stored, None, ServiceSettings(), allow=False)
        assert list(temporary.iterdir()) == []
        found: list[Any] = await replica.together([wanted(png(1))])
        return found

    [found] = asyncio.run(scene())
    assert found.result.content == protector.protect(png(1), "cat", speed="instant").content


class Handle:
    """A deployment whose replicas are lost as often as the test says."""

    def __init__(self, lost: int = 0, fault: Exception | None = None, raised: Exception | None = None) -> None:
        self.lost, self.fault, self.raised, self.asked = lost, fault, raised, 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.full = self.quick = self.instant = self.fingerprint = self

    async def remote(self, given: Any = None) -> Any:  # noqa: ANN401 - Ray's own interface
        self.asked += 1
        await self.gate.wait()
        if self.asked <= self.lost:
            raise ray_exceptions.RayActorError
        if self.raised is not None:
            raise self.raised
        if given is None:
            return "fingerprint"
        result = self.fault or released(given.content, given.label, given.speed)
        return replicas.Outcome(result, 3, 0.5)


def front(handle: Handle, sizes: list[int], **settings: int) -> Any:  # noqa: ANN401 - lazily imported
    return replicas.Replicated(handle, ABOUT, ServiceSettings(**settings), sizes.append)


def test_an_image_goes_to_another_replica_when_its_own_is_lost() -> None:
    handle, sizes = Handle(lost=2), list[int]()
    found = asyncio.run(front(handle, sizes).protect(upload(png(), "cat"), "full"))
    assert found.content == released(png(), "cat", "full").content
    assert (handle.asked, sizes) == (3, [3])


def test_without_replicas_an_image_is_handed_back_and_the_service_is_not_ready() -> None:
    with pytest.raises(Stopping):
        asyncio.run(front(Handle(lost=100), []).protect(upload(png()), "full"))
    with pytest.raises(Stopping):
        asyncio.run(front(Handle(lost=100), []).check())
    asyncio.run(front(Handle(), []).check())


def test_an_image_that_fails_in_a_replica_fails_with_its_own_error() -> None:
    with pytest.raises(RunStopped, match="not fit"):
        asyncio.run(front(Handle(fault=RunStopped("not fit")), []).protect(upload(png()), "full"))


@pytest.mark.parametrize("cause", [MemoryError(), ray_exceptions.RayActorError()])
def test_what_is_raised_in_a_replica_is_no_loss_of_it(cause: Exception) -> None:
    raised = ray_exceptions.RayTaskError("protect", "traceback", cause).as_instanceof_cause()
    handle = Handle(raised=raised)
    with pytest.raises(ray_exceptions.RayTaskError) as found:
        asyncio.run(front(handle, []).protect(upload(png()), "full"))
    assert (handle.asked, problem_of(found.value).reason) == (1, "internal-error")


def test_an_image_that_has_just_come_back_shows_that_replicas_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "CHECKED_WITHIN", 0.01)

    async def scene() -> None:
        handle = Handle()
        crafting = front(handle, [])
        handle.gate.clear()  # as many images wait before the question
        with pytest.raises(Stopping):
            await crafting.check()
        handle.gate.set()
        await crafting.protect(upload(png()), "full")
        handle.gate.clear()
        await crafting.check()
        handle.gate.set()
        handle.lost = 100
        with pytest.raises(Stopping):
            await crafting.protect(upload(png()), "full")
        with pytest.raises(Stopping):
            await crafting.check()

    asyncio.run(scene())


@pytest.mark.parametrize("hangs", [False, True])
def test_replicas_that_do_not_answer_are_not_taken_for_the_ledger(
    hangs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        if hangs:
            await asyncio.Event().wait()
        raise Stopping(7)

    async def scene() -> None:
        async with running(tmp_path) as service:
            if hangs:  # the ledger has its own time, and has answered by then
                monkeypatch.setattr(service.service.accounting, "ping", answered)
                monkeypatch.setattr(health, "PATIENCE", 0.01)
            monkeypatch.setattr(service.crafting, "check", check)
            response = await service.http.get("/health/ready")
            assert (response.status_code, response.json()["type"]) == (503, "urn:withhold:crafting-unavailable")
            assert int(response.headers["retry-after"]) >= 1

    async def answered() -> None: ...

    asyncio.run(scene())


def test_the_front_bounds_what_waits() -> None:
    async def scene() -> None:
        handle = Handle()
        handle.gate.clear()
        crafting = front(handle, [], max_queue=1)
        first = asyncio.create_task(crafting.protect(upload(png(1)), "full"))
        while not handle.asked:
            await asyncio.sleep(0)
        assert crafting.waiting() == 1
        with pytest.raises(QueueFull):
            await crafting.protect(upload(png(2)), "full")
        handle.gate.set()
        await first
        assert crafting.waiting() == 0

    asyncio.run(scene())
