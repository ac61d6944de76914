"""What a client can ask about the protector and about itself."""

from collections.abc import Mapping
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from withhold.online.service.routes.shared import FOR_CLIENTS, Authorized, Serving
from withhold.online.settings import SpeedName

router = APIRouter(prefix="/v1", tags=["about"])


class SpeedReport(BaseModel):
    """What a speed does.

    Attributes:
        start: From a random perturbation, or from the generator's output.
        steps: Of crafting, after that.
    """

    start: Literal["settings", "generator"]
    steps: int


class Limits(BaseModel):
    """What is taken, at most."""

    image_bytes: int
    image_pixels: int
    images: int
    request_bytes: int
    request_pixels: int


class ProtectorReport(BaseModel):
    """What clients may know of the protector.

    Attributes:
        fingerprint: SHA-256 of everything that it consists of.
        classes: Names of the labels, in the order of their indices.
        eps: Largest change, as a fraction of the pixel range.
        largest_change: The same in whole levels of 8 bit.
        speed: Of a request that names none.
    """

    fingerprint: str
    classes: tuple[str, ...]
    eps: str
    largest_change: int
    speeds: Mapping[SpeedName, SpeedReport]
    speed: SpeedName
    limits: Limits


class UsageReport(BaseModel):
    """What a client has had, reserved images among them; no limit is null.

    Attributes:
        images_today: Since midnight, UTC.
        pairs: Of original and released image that it could hold.
    """

    client: str
    images_today: int
    images_per_day: int | None
    pairs: int
    pairs_limit: int | None


@router.get("/protector", responses=FOR_CLIENTS)
async def protector(client: Authorized, service: Serving) -> ProtectorReport:  # noqa: ARG001 - only clients may ask
    """Say what the protector knows, and what it takes."""
    about, settings = service.crafting.about, service.settings
    speeds = {name: SpeedReport(start=speed.start, steps=speed.steps) for name, speed in about.speeds.items()}
    return ProtectorReport(
        fingerprint=about.fingerprint,
        classes=about.classes,
        eps=about.eps,
        largest_change=about.bound,
        speeds=speeds,
        speed=settings.speed,
        limits=Limits(
            image_bytes=settings.max_bytes,
            image_pixels=settings.max_pixels,
            images=settings.max_images,
            request_bytes=settings.max_request_bytes,
            request_pixels=settings.max_request_pixels,
        ),
    )


@router.get("/usage", responses=FOR_CLIENTS)
async def usage(client: Authorized, service: Serving) -> UsageReport:
    """Say what the client has had, and may have."""
    found = await service.accounting.usage(client)
    return UsageReport(
        client=client.name,
        images_today=found.images_today,
        images_per_day=found.images_per_day,
        pairs=found.pairs,
        pairs_limit=found.pairs_limit,
    )
