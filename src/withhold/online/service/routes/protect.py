"""Images that are protected while the client waits."""

import time
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from withhold.online.protector import Released
from withhold.online.service.answers import PRIVATE, ZIP, Result, archive, image_response
from withhold.online.service.concurrent import disconnected, unless
from withhold.online.service.forms import form_schema, read_form
from withhold.online.service.routes.shared import FOR_IMAGES, IMAGE_FIELD, LABEL_FIELD, Authorized, Key, Serving, file
from withhold.online.service.uploads import Upload

router = APIRouter(prefix="/v1", tags=["protect"])

ONE = form_schema({"image": IMAGE_FIELD, "label": LABEL_FIELD}, ["image"])
MANY = form_schema(
    {
        "images": {"type": "array", "items": IMAGE_FIELD, "minItems": 1},
        "labels": {"type": "array", "items": LABEL_FIELD, "description": "One for each image, or none at all."},
    },
    ["images"],
)


@router.post(
    "/protect",
    response_class=Response,
    responses=FOR_IMAGES
    | {
        200: file(
            "The released file; what was measured is in the headers Withhold-*.",
            "image/png",
            "image/webp",
            "image/tiff",
        )
    },
    openapi_extra=ONE,
)
async def protect(request: Request, client: Authorized, service: Serving, key: Key = None) -> Response:
    """Protect an image."""
    began = time.perf_counter()
    fields = service.fields_of_one()
    with service.working(request, fields):
        form = await unless(read_form(request, fields), service.handed_back())
        upload = await service.upload(form.images[0], form.labels[0])
        service.expect_pixels(request, [upload])
        released = await unless(
            service.protecting.one(client, upload, form.speed or service.settings.speed, key),
            disconnected(request),
            service.handed_back(),
        )
    service.count(released, "/v1/protect")
    service.metrics.seconds.labels(released.speed).observe(time.perf_counter() - began)
    request.state.images = 1
    return image_response(released)


@router.post(
    "/protect/many",
    response_class=StreamingResponse,
    responses=FOR_IMAGES
    | {
        HTTPStatus.OK.value: file("The released files, and released.json with the numbers or the problem of each.", ZIP)
    },
    openapi_extra=MANY,
)
async def protect_many(request: Request, client: Authorized, service: Serving, key: Key = None) -> Response:
    """Protect several images; what is wrong with one of them does not keep the others back."""
    fields = service.fields_of_many()
    with service.working(request, fields):
        form = await unless(read_form(request, fields), service.handed_back())
        found = await service.uploads(form)
        uploads = [each for each in found if isinstance(each, Upload)]
        service.expect_pixels(request, uploads)
        outcomes = await unless(
            service.protecting.many(client, uploads, form.speed or service.settings.speed, key),
            disconnected(request),
            service.handed_back(),
        )
    for outcome in outcomes:
        if isinstance(outcome, Released):
            service.count(outcome, "/v1/protect/many")
    request.state.images = len(outcomes)
    in_order = iter(outcomes)
    results = [
        Result.of(number, next(in_order) if isinstance(each, Upload) else each) for number, each in enumerate(found, 1)
    ]
    headers = {"Content-Disposition": 'attachment; filename="released.zip"', **PRIVATE}
    return StreamingResponse(archive(results, service.crafting.about.fingerprint), media_type=ZIP, headers=headers)
