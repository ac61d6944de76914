"""A service whose crafting the test controls, over a real ledger and a real spool."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image
from tests.online.protectors import CLASSES, SECRET, pixels

from withhold.data.pixels import Picture
from withhold.online.ledger import Ledger
from withhold.online.protector import Protector, Released
from withhold.online.service.app import create_app
from withhold.online.service.crafting import About
from withhold.online.service.local import LocalCrafting
from withhold.online.service.logs import Log
from withhold.online.service.service import Service
from withhold.online.service.settings import MOST_PIXELS, ServiceSettings
from withhold.online.service.spool import Spool
from withhold.online.service.uploads import Upload
from withhold.online.settings import OnlineSettings, SpeedName

SETTINGS = ServiceSettings()
ABOUT = About("f0" * 32, CLASSES, "8/255", 8, OnlineSettings().speeds(), 1)
SPOOL_SECRET = bytes.fromhex(SECRET.decode())


def png(seed: int = 0, height: int = 16, width: int = 16) -> bytes:
    return encoded("PNG", pixels(seed, height, width))


def upload(content: bytes, label: str | None = None) -> Upload:
    return Upload.of(content, label, MOST_PIXELS)


def encoded(kind: str, levels: np.ndarray, **options: Any) -> bytes:  # noqa: ANN401
    target = io.BytesIO()
    Image.fromarray(levels).save(target, kind, **options)
    return target.getvalue()


def released(content: bytes, label: str | None, speed: SpeedName, protector: str = ABOUT.fingerprint) -> Released:
    """What the fake makes of an image: a file that says what it was asked for."""
    after = f"{speed}/{label}/".encode() + hashlib.sha256(content).digest()
    return Released(
        content=after,
        media_type="image/png",
        picture=Picture(np.zeros((1, 1, 3), np.uint8)),
        label=label or "owl",
        label_was_given=label is not None,
        speed=speed,
        largest_change=8.0,
        psnr=34.5,
        sha256_before=hashlib.sha256(content).hexdigest(),
        sha256_after=hashlib.sha256(after).hexdigest(),
        seconds=0.1,
        protector=protector,
    )


class FakeCrafting:
    """Crafts when the test opens the gate, and raises what the test says.

    Attributes:
        begun: Contents in the order in which they came.
        cancelled: Contents whose caller did not wait.
        errors: What to raise, by content.
        stuck: Contents that never end.
        patient: Contents that came from requests that were accepted.
    """

    def __init__(self) -> None:
        self.about = ABOUT
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Condition()
        self.begun: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.patient: list[bytes] = []
        self.errors: dict[bytes, Exception] = {}
        self.stuck: set[bytes] = set()
        self.closed = False

    async def protect(self, upload: Upload, speed: SpeedName, *, patient: bool = False) -> Released:
        content = upload.content
        if patient:
            self.patient.append(content)
        async with self.arrived:
            self.begun.append(content)
            self.arrived.notify_all()
        try:
            await self.gate.wait()
            if content in self.stuck:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(content)
            raise
        if content in self.errors:
            raise self.errors[content]
        return released(content, upload.label, speed)

    async def has_begun(self, count: int) -> None:
        """Wait until so many images came."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.begun) >= count)

    async def has_begun_with(self, content: bytes) -> None:
        """Wait until an image came."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: content in self.begun)

    def waiting(self) -> int:
        return 3

    async def check(self) -> None: ...

    async def close(self) -> None:
        self.closed = True


@dataclass
class Running:
    """A service and a client that speaks to it without a network."""

    app: FastAPI
    http: httpx.AsyncClient
    ledger: Ledger
    spool: Path
    crafting: Any
    log_text: StringIO
    token: str
    others: dict[str, str] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log_text.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def protect(
        self, content: bytes, *, label: str | None = None, token: str | None = None, key: str | None = None, **data: str
    ) -> httpx.Response:
        fields = data if label is None else {**data, "label": label}
        headers = self.headers(token, key)
        return await self.http.post("/v1/protect", files={"image": content}, data=fields, headers=headers)

    async def send_many(
        self,
        path: str,
        contents: list[bytes],
        labels: list[str] | None = None,
        *,
        key: str | None = None,
        token: str | None = None,
    ) -> httpx.Response:
        files = [("images", ("any", content)) for content in contents]
        data = {"labels": labels} if labels else {}
        return await self.http.post(path, files=files, data=data, headers=self.headers(token, key))

    def headers(self, token: str | None = None, key: str | None = None) -> dict[str, str]:
        found = {"Authorization": f"Bearer {token or self.token}"}
        return found if key is None else {**found, "Idempotency-Key": key}

    async def finished(self, job: str) -> dict[str, Any]:
        """Poll a job until it is in its last state."""
        async with asyncio.timeout(30):
            while True:
                report = (await self.http.get(f"/v1/jobs/{job}", headers=self.headers())).json()
                if report["state"] not in {"accepted", "running"}:
                    return dict(report)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    folder: Path,
    *,
    crafting: FakeCrafting | Protector | None = None,
    images_per_day: int | None = None,
    pairs: int | None = 500,
    ledger: str | None = None,
    **chosen: Any,  # noqa: ANN401
) -> AsyncIterator[Running]:
    """Run a service in this process; a second time in the same folder it is the same ledger and spool."""
    settings, log_text = ServiceSettings.model_validate(chosen), StringIO()
    behind: Any = LocalCrafting(crafting, settings) if isinstance(crafting, Protector) else crafting or FakeCrafting()
    spool = Spool.open(folder / "spool", SPOOL_SECRET)
    opened = Ledger.open(ledger or f"sqlite:///{folder / 'ledger.db'}")
    try:
        token_file = folder / "token"
        if not token_file.exists():
            token_file.write_text(opened.add_client("me", images_per_day=images_per_day, pairs=pairs))
        app = create_app(behind, opened, settings, spool, log=Log(log_text))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as http,
        ):
            yield Running(app, http, opened, folder / "spool", behind, log_text, token_file.read_text())
    finally:
        opened.close()
        spool.close()
