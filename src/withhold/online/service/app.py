"""The application: routes around a service."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from withhold.errors import WithholdError
from withhold.online.ledger import Ledger
from withhold.online.service.crafting import Crafting
from withhold.online.service.logs import Log
from withhold.online.service.metrics import Metrics
from withhold.online.service.observing import Observing
from withhold.online.service.page.router import router as page
from withhold.online.service.problems import Problem, problem_of
from withhold.online.service.routes import about, health, jobs, protect
from withhold.online.service.service import Service
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.spool import Spool
from withhold.version import __version__

SENTENCES: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address; /docs lists what there is.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address takes other methods; /docs lists them.",
}


def create_app(
    crafting: Crafting,
    ledger: Ledger,
    settings: ServiceSettings,
    spool: Spool,
    *,
    metrics: Metrics | None = None,
    log: Log | None = None,
) -> FastAPI:
    """Make the application that protects images over HTTP.

    It is complete once its lifespan has begun: jobs of an earlier process go on then. When the lifespan ends, so does
    `crafting`; whoever opened `ledger` and `spool` closes them.

    Args:
        crafting: What protects the images.
        spool: Where the images of jobs wait.
    """
    service = Service(crafting, ledger, settings, spool, metrics=metrics or Metrics(), log=log or Log())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.close()

    app: FastAPI = FastAPIOffline(  # the interactive documentation loads nothing from elsewhere
        title="Withhold",
        version=__version__,
        description="Protects images, one by one, as they are released.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    for routes in (protect, jobs, about, health):
        app.include_router(routes.router)
    app.include_router(page)
    app.add_middleware(Observing, service=service)
    for error in (Problem, WithholdError, HTTPException, RequestValidationError):
        app.add_exception_handler(error, _answer)
    return app


async def _answer(request: Request, error: Exception) -> JSONResponse:
    problem = problem_of(_translated(error))
    service: Service = request.app.state.service
    service.metrics.rejections.labels(problem.reason).inc()
    service.log.failure(problem, error)
    request.state.reason = problem.reason
    return problem.response()


def _translated(error: Exception) -> Exception:
    if isinstance(error, RequestValidationError):
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", _explained(error.errors()))
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        detail = SENTENCES.get(status, "The request cannot be answered.")
        return Problem(status, status.phrase.lower().replace(" ", "-"), detail, error.headers)
    return error


def _explained(errors: Sequence[Mapping[str, Any]]) -> str:
    first = errors[0]
    place, name = str(first["loc"][0]), str(first["loc"][-1])
    return f"The {place} parameter {name} is not as /docs says: {first['msg']}."
