import asyncio
from pathlib import Path
from threading import Event

import pytest
from tests.online.protectors import tiny
from tests.online.service.fakes import png, upload

from withhold.data.pixels import UnreadableImage
from withhold.errors import InvalidInput
from withhold.online.protector import Protector, Released
from withhold.online.service.crafting import QueueFull
from withhold.online.service.local import LocalCrafting
from withhold.online.service.settings import ServiceSettings
from withhold.online.settings import SPEEDS

pytestmark = pytest.mark.anyio
PATIENCE = 30.0


class Slow:
    """Keeps a protector from crafting until the test lets it."""

    def __init__(self, protector: Protector, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = Event(), Event()
        craft = protector.craft

        def wait(*args: object, **options: object) -> object:
            self.begun.set()
            assert self.go_on.wait(PATIENCE)
            return craft(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(protector, "craft", wait)


async def test_images_come_out_as_the_protector_gives_them(protector: Protector) -> None:
    crafting = LocalCrafting(protector, ServiceSettings())
    contents = [png(seed) for seed in range(4)]
    tasks = [crafting.protect(upload(content, "cat"), speed) for content in contents for speed in SPEEDS]
    results = await asyncio.gather(*tasks)
    await crafting.close()
    expected = [protector.protect(content, "cat", speed=speed) for content in contents for speed in SPEEDS]
    assert [each.content for each in results] == [each.content for each in expected]
    assert results[0].protector == crafting.about.fingerprint == protector.fingerprint


async def test_lanes_are_filled(tmp_path: Path) -> None:
    protector = Protector.load(tiny(tmp_path / "p", lanes=3))
    sizes: list[int] = []
    crafting = LocalCrafting(protector, ServiceSettings(max_wait_ms=60_000), sizes.append)
    results = await asyncio.gather(*(crafting.protect(upload(png(seed)), "instant") for seed in range(6)))
    await crafting.close()
    assert sizes == [3, 3]
    assert [each.content for each in results] == [
        protector.protect(png(seed), speed="instant").content for seed in range(6)
    ]


@pytest.mark.parametrize("limit", [{"max_queue": 2}, {"max_queue_pixels": 600}])
async def test_a_full_queue_refuses_single_images_and_keeps_patient_ones_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    protector = Protector.load(tiny(tmp_path / "p"))
    slow = Slow(protector, monkeypatch)
    crafting = LocalCrafting(protector, ServiceSettings(**limit))
    single = [asyncio.create_task(crafting.protect(upload(png(seed)), "instant")) for seed in range(2)]
    assert await asyncio.to_thread(slow.begun.wait, PATIENCE)
    patient = [asyncio.create_task(crafting.protect(upload(png(seed)), "instant", patient=True)) for seed in (2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as caught:
        await crafting.protect(upload(png(4)), "instant")
    assert caught.value.retry_after == 3  # images that wait or are crafted, at a second each before any was measured
    assert crafting.waiting() == 3
    slow.go_on.set()
    results = await asyncio.gather(*single, *patient)
    assert all(isinstance(each, Released) for each in results)
    assert crafting.waiting() == 0
    await crafting.protect(upload(png(4)), "instant")
    await crafting.close()


async def test_what_is_refused_takes_no_room(protector: Protector) -> None:
    crafting = LocalCrafting(protector, ServiceSettings(max_queue=1))
    for content, label, expected in (
        (png()[:-40], None, UnreadableImage),
        (png(), "cta", InvalidInput),
    ):
        with pytest.raises(expected):
            await crafting.protect(upload(content, label), "instant")
    assert crafting.waiting() == 0
    await crafting.close()
