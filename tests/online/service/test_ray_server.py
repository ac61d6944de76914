"""The application on Ray Serve without a cluster: how it begins and ends."""

import asyncio
from pathlib import Path

import httpx
import pytest
from tests.online.protectors import tiny
from tests.online.service.fakes import ABOUT
from tests.tools import package
from typer.testing import CliRunner

from withhold.cli.main import app
from withhold.errors import InvalidInput, RunStopped
from withhold.online.folder import read_folder
from withhold.online.service.server import SPOOL, Places
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.spool import Spool

exceptions = package("ray.serve.exceptions")
ray_server = package("withhold.online.service.ray_server")


class Living:
    """A deployment that answers."""

    def __init__(self) -> None:
        self.fingerprint = self

    async def remote(self) -> str:
        return ABOUT.fingerprint


def test_the_front_stops_as_a_single_process_does(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "protector")
    ingress = ray_server.Ingress(Living(), ABOUT, Places(folder), ServiceSettings())

    async def scene() -> None:
        app = ingress.__serve_build_asgi_app__()
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as http,
        ):
            assert (await http.get("/health/ready")).status_code == 200
            await ingress.drain()
            response = await http.get("/health/ready")
            assert (response.status_code, response.json()["type"]) == (503, "urn:withhold:stopping")

    asyncio.run(scene())


def test_replicas_that_do_not_start_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        msg = "Deploying application withhold failed"
        raise RuntimeError(msg)

    monkeypatch.setattr(ray_server.serve, "run", run)
    with pytest.raises(RunStopped, match="logs/serve"):
        ray_server.start(None)


def test_a_place_that_cannot_be_used_is_told_before_a_cluster_is_started(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "protector")
    spool = Spool.open(folder / SPOOL, read_folder(folder).key)
    with pytest.raises(InvalidInput, match=r"used by another service.*--spool"):
        ray_server.serve_replicas(Places(folder), ServiceSettings(engine="ray", port=0))
    spool.close()


@pytest.mark.parametrize("error", [None, exceptions.RayServeException("there is no Serve")])
def test_of_a_cluster_only_the_service_is_ended(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = list[str]()

    def delete(name: str) -> None:
        ended.append(name)
        if error is not None:
            raise error

    monkeypatch.setattr(ray_server.serve, "delete", delete)
    monkeypatch.setattr(ray_server.serve, "shutdown", lambda: ended.append("all"))
    ray_server.end()
    assert ended == [ray_server.NAME]


def test_a_service_that_does_not_end_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(_: str) -> None:
        raise TimeoutError

    monkeypatch.setattr(ray_server.serve, "delete", delete)
    with pytest.raises(RunStopped, match="serve status"):
        ray_server.end()


def test_options_of_ray_without_ray_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["serve", str(tiny(tmp_path / "protector")), "--replicas", "2"])
    assert done.exit_code == 2
    assert "give --engine ray too" in done.output
