"""Images that take longer than a client wants to wait."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from withhold.online.ledger import FINISHED, Client, Job, JobState
from withhold.online.service.answers import PRIVATE, ZIP, archive
from withhold.online.service.concurrent import unless
from withhold.online.service.forms import read_form
from withhold.online.service.problems import Problem
from withhold.online.service.routes.protect import MANY
from withhold.online.service.routes.shared import FOR_CLIENTS, FOR_IMAGES, Authorized, Key, Serving, file, problems
from withhold.online.service.service import Service

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
Id = Annotated[str, Path(description="Of the job, as its Location says.", min_length=1, max_length=64)]
NOT_FOUND = problems(HTTPStatus.NOT_FOUND)


class JobReport(BaseModel):
    """How far a job is.

    Attributes:
        images: That belong to it.
        done: That are finished, those that could not be released among them.
        problem: Why it failed, if it did.
        created, updated: In UTC.
    """

    id: str
    state: JobState
    images: int
    done: int
    problem: str | None
    created: datetime
    updated: datetime

    @classmethod
    def of(cls, job: Job) -> "JobReport":
        """Take it from the ledger."""
        return cls(**{name: getattr(job, name) for name in cls.model_fields})


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    responses=FOR_IMAGES
    | problems(HTTPStatus.INSUFFICIENT_STORAGE)
    | {202: {"headers": {"Location": {"schema": {"type": "string"}, "description": "Of the job."}}}},
    openapi_extra=MANY,
)
async def accept(
    request: Request, response: Response, client: Authorized, service: Serving, key: Key = None
) -> JobReport:
    """Take images on as a job; once this is answered, they are not lost."""
    fields = service.fields_of_many()
    with service.working(request, fields):
        form = await unless(read_form(request, fields), service.handed_back())
        found = await service.uploads(form)
        job = await service.jobs.accept(client, found, form.speed or service.settings.speed, key)
    request.state.images = len(found)
    response.headers["Location"] = str(request.app.url_path_for("show", job=job.id))
    return JobReport.of(job)


@router.get("/{job}", responses=FOR_CLIENTS | NOT_FOUND)
async def show(job: Id, client: Authorized, service: Serving) -> JobReport:
    """Say how far a job is."""
    return JobReport.of(await _found(job, client, service))


@router.get(
    "/{job}/released",
    response_class=StreamingResponse,
    responses=FOR_CLIENTS
    | NOT_FOUND
    | problems(HTTPStatus.CONFLICT, HTTPStatus.GONE, HTTPStatus.TOO_MANY_REQUESTS)
    | {
        HTTPStatus.OK.value: file("The released files, and released.json with the numbers or the problem of each.", ZIP)
    },
)
async def released(request: Request, job: Id, client: Authorized, service: Serving) -> Response:
    """Fetch the released files of a job that is done; they stay until they are deleted or too old."""
    found = await _found(job, client, service)
    if found.state not in FINISHED:
        detail = f"The job is {found.state.value}: {found.done} of {found.images} images. Ask again later."
        raise Problem(HTTPStatus.CONFLICT, "job-unfinished", detail)
    if found.state is not JobState.DONE or not service.jobs.has_results(found):
        detail = f"The job is {found.state.value}, and there are no results of it (any more)."
        raise Problem(HTTPStatus.GONE, "no-results", detail)
    service.expect_bytes(request, service.jobs.largest_result(found))
    headers = {"Content-Disposition": 'attachment; filename="released.zip"', **PRIVATE}
    pieces = archive(service.jobs.results(found), service.crafting.about.fingerprint)
    return StreamingResponse(pieces, media_type=ZIP, headers=headers)


@router.delete("/{job}", status_code=HTTPStatus.NO_CONTENT, responses=FOR_CLIENTS | NOT_FOUND)
async def delete(job: Id, client: Authorized, service: Serving) -> None:
    """Cancel a job, or delete the results of one that is done."""
    await service.jobs.delete(await _found(job, client, service))


async def _found(job: str, client: Client, service: Service) -> Job:
    found = await service.jobs.find(job, client)
    if found is None:
        raise Problem(
            HTTPStatus.NOT_FOUND, "no-such-job", "There is no such job, or it is another client's, or too old."
        )
    return found
