"""What several routes need: the service, the client, and their answers in the OpenAPI document."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from withhold.online.ledger import Client
from withhold.online.service.problems import MEDIA_TYPE, ProblemDetails, unauthorized
from withhold.online.service.service import Service

_bearer = HTTPBearer(auto_error=False, description="A client's token, from `withhold online client add NAME`.")


def service_of(request: Request) -> Service:
    """Give the service that an application was made with."""
    service: Service = request.app.state.service
    return service


Serving = Annotated[Service, Depends(service_of)]


async def client_of(
    request: Request,
    service: Serving,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Client:
    """Find the client that sends a request, before anything of its body is read.

    Raises:
        Problem: There is no token, or nobody has it.
        LedgerUnavailable: The ledger is away.
    """
    if credentials is None:
        raise unauthorized("there is none")
    client = await service.accounting.client_of(credentials.credentials)
    if client is None:
        raise unauthorized("the token is not known")
    request.state.client = client.name
    return client


Authorized = Annotated[Client, Depends(client_of)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="The same key with the same content gives the same answer again, and is counted once.",
    ),
]


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a route may answer with."""
    content = {MEDIA_TYPE: {"schema": ProblemDetails.model_json_schema()}}
    return {status.value: {"description": status.phrase, "content": content} for status in statuses}


def file(description: str, *media_types: str) -> dict[str, Any]:
    """Describe an answer that is a file."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": dict.fromkeys(media_types, binary)}


FOR_CLIENTS = problems(HTTPStatus.UNAUTHORIZED, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)
FOR_IMAGES = FOR_CLIENTS | problems(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
IMAGE_FIELD = {"type": "string", "format": "binary", "description": "The file; its name and stated type mean nothing."}
LABEL_FIELD = {
    "type": "string",
    "description": "What it shows: the name of a class or its index. The surrogate decides if it is absent or empty.",
}
