"""Requests with images, read within bounds of size, number and time, and kept in memory only."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, get_args

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from withhold.online.service.problems import Problem
from withhold.online.settings import SPEEDS, SpeedName

FORM = "multipart/form-data"
OVERHEAD = 64 * 1024
"""Bytes of a form beside its images."""

LONGEST_FIELD = 4096
CLOSE = {"Connection": "close"}
SHOWN = 40
"""Characters of a name that are repeated in an answer."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What a form may hold.

    Attributes:
        image, label: Names of its fields.
        most: Images.
        most_bytes: Of the whole request.
        seconds: Within which it must be here.
    """

    image: str
    label: str
    most: int
    most_bytes: int
    seconds: float

    def size(self, request: Request) -> int:
        """Give the bytes of a request, the most that it may have if it does not say.

        Raises:
            Problem: It says that it has more, or what it says is no number.
        """
        stated = request.headers.get("content-length")
        if stated is None:
            return self.most_bytes
        if not (stated.isascii() and stated.isdigit()) or int(stated) > self.most_bytes:
            raise _too_large(self.most_bytes)
        return int(stated)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What a form held: files, labels in their order, and the speed if one was named."""

    images: Sequence[bytes]
    labels: Sequence[str]
    speed: SpeedName | None


class InMemory(MultiPartParser):
    """Keeps files in memory, however large: originals are not to be found in a temporary folder.

    A form without its last line is malformed: what it lacks may be an image.
    """

    spool_max_size = sys.maxsize
    _ended = False

    def on_end(self) -> None:
        """Note the last line."""
        self._ended = True

    async def parse(self) -> FormData:
        """Read the form.

        Raises:
            MultiPartException: It is malformed, or larger than it may be.
        """
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for piece in stream:
            yield piece
        if not self._ended:
            msg = "the last line is missing"
            raise MultiPartException(msg)


async def read_form(request: Request, fields: Fields) -> Form:
    """Receive and read a form.

    Raises:
        Problem: It is no form, too large, too slow, or holds other fields than it may.
        ClientDisconnect: The client has gone.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        detail = f"Images are sent as {FORM}, each in a field {fields.image}, as `curl -F {fields.image}=@FILE` does."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-a-form", detail)
    parser = InMemory(
        request.headers,
        _bounded(request.stream(), fields.most_bytes),
        max_files=fields.most,
        max_fields=fields.most + 1,
        max_part_size=LONGEST_FIELD,
    )
    try:
        async with asyncio.timeout(fields.seconds):
            form = await parser.parse()
    except TimeoutError:
        detail = f"The request did not arrive within {fields.seconds:g} s. Send it faster, or send smaller images."
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "too-slow", detail, CLOSE) from None
    except (MultiPartException, ValueError):
        raise _malformed(fields) from None
    try:
        return _checked(form, fields)
    finally:
        await form.close()


def form_schema(properties: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """Describe a form for OpenAPI."""
    speed = {"type": "string", "enum": list(get_args(SpeedName)), "description": "Speed; the service's own if absent."}
    schema = {
        "type": "object",
        "properties": {**properties, "speed": speed},
        "required": list(required),
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


async def _bounded(stream: AsyncIterator[bytes], most: int) -> AsyncGenerator[bytes, None]:
    received = 0
    async for piece in stream:
        received += len(piece)
        if received > most:
            raise _too_large(most)
        yield piece


def _checked(form: FormData, fields: Fields) -> Form:
    images: list[bytes] = []
    labels: list[str] = []
    speeds: list[str] = []
    texts = {fields.label: labels, "speed": speeds}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name == fields.image:
            images.append(value.file.read())
        elif isinstance(value, str) and name in texts:
            texts[name].append(value)
        else:
            detail = (
                f"Field {name[:SHOWN]!r} is not expected here. A form holds files {fields.image!r} and texts "
                f"{fields.label!r} and 'speed'."
            )
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-form", detail)
    if not images:
        detail = f"There is no image. Send a file in the field {fields.image!r}."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-form", detail)
    if len(labels) not in {0, len(images)}:
        detail = f"One label belongs to each image, or none at all; got {len(labels)} for {len(images)} images."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-form", detail)
    return Form(images, labels or [""] * len(images), _speed(speeds))


def _speed(given: Sequence[str]) -> SpeedName | None:
    chosen = [text for text in given if text]
    if not chosen:
        return None
    for speed in SPEEDS:
        if chosen == [speed]:
            return speed
    detail = f"The speed is one of {', '.join(SPEEDS)}, given once."
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-form", detail)


def _malformed(fields: Fields) -> Problem:
    detail = (
        f"The form is malformed or not complete, or has more than {fields.most} images or {LONGEST_FIELD} bytes in a "
        "text field."
    )
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-form", detail)


def _too_large(most: int) -> Problem:
    detail = f"At most {most} bytes are taken in one request. Send smaller images, or fewer at a time."
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail, CLOSE)
