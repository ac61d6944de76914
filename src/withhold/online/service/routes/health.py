"""What operators ask: whether the service lives, whether it can work, and its numbers."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from withhold.online.ledger import LedgerUnavailable
from withhold.online.service.batcher import RESTART
from withhold.online.service.crafting import Stopping, Unavailable
from withhold.online.service.problems import later
from withhold.online.service.routes.shared import Serving, problems

router = APIRouter(tags=["health"])
PATIENCE = 5.0
"""Seconds for the ledger to answer, and as many for what crafts."""


class Health(BaseModel):
    """What is well."""

    status: str


@router.get("/health/live")
async def live() -> Health:
    """Answer, if the process does."""
    return Health(status="live")


@router.get("/health/ready", responses=problems(HTTPStatus.SERVICE_UNAVAILABLE))
async def ready(service: Serving) -> Health:
    """Say whether images can be protected now: the ledger answers, and so does what crafts."""
    if service.stopping:
        raise Stopping(RESTART)
    try:
        async with asyncio.timeout(PATIENCE):
            await service.accounting.ping()
    except TimeoutError:
        msg = f"the ledger did not answer within {PATIENCE:g} s"
        raise LedgerUnavailable(msg) from None
    try:
        async with asyncio.timeout(PATIENCE):
            await service.crafting.check()
    except (TimeoutError, Unavailable):
        detail = "What protects the images does not answer."
        raise later(HTTPStatus.SERVICE_UNAVAILABLE, "crafting-unavailable", detail, RESTART) from None
    return Health(status="ready")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: Serving) -> Response:
    """Give the numbers that Prometheus reads."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
