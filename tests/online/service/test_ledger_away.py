"""The ledger's database is killed and comes back, with a real PostgreSQL."""

import asyncio
from pathlib import Path

import pytest
from tests.online.postgres import Postgres, postgres
from tests.online.service.fakes import png, running
from tests.online.service.test_jobs import accepted
from tests.online.service.test_protect import detail

__all__ = ["postgres"]  # a fixture
pytestmark = pytest.mark.anyio


async def test_a_database_that_goes_away_stops_nothing_for_good(tmp_path: Path, postgres: Postgres) -> None:
    async with running(tmp_path, ledger=postgres.new_url()) as service:
        assert (await service.protect(png(1))).status_code == 200
        service.crafting.gate.clear()
        job = await accepted(service, [png(2), png(3)])
        begun = asyncio.create_task(service.protect(png(4), key="k"))
        await service.crafting.has_begun(3)
        await asyncio.to_thread(postgres.kill)
        service.crafting.gate.set()
        detail(await begun, 503, "ledger-unavailable")  # crafted, but it cannot be recorded, so it does not get out
        detail(await service.protect(png(5)), 503, "ledger-unavailable")
        detail(await service.http.get("/health/ready"), 503, "ledger-unavailable")
        assert (await service.http.get("/health/live")).status_code == 200
        await asyncio.to_thread(postgres.start)
        assert (await service.protect(png(4), key="k")).status_code == 200
        assert (await service.finished(job))["state"] == "done"
        usage = (await service.http.get("/v1/usage", headers=service.headers())).json()
        assert (usage["images_today"], usage["pairs"]) == (4, 4)
        assert len(list(service.ledger.entries())) == 4
