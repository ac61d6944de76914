"""What clients are told when something does not work: RFC 9457 documents with a sentence of ours."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from withhold.data.pixels import UnreadableImage
from withhold.errors import InvalidInput, RunStopped
from withhold.online.image import Unchangeable
from withhold.online.ledger import (
    IdempotencyConflict,
    LedgerUnavailable,
    PairLimitReached,
    QuotaExceeded,
    UnknownClient,
)
from withhold.online.service.crafting import QueueFull, Stopping
from withhold.online.service.uploads import TooManyPixels, UnknownKind

MEDIA_TYPE = "application/problem+json"
LEDGER_RETRY = 5
"""Seconds after which a ledger that was away is worth another try."""

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="withhold"'}


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457).

    Attributes:
        type: `urn:withhold:` and the reason, for programs.
        title: What the status means.
        detail: What was expected, what came, and what helps.
    """

    type: str
    title: str
    status: int
    detail: str


class Problem(Exception):
    """What a client is told instead of what it asked for.

    Attributes:
        reason: For programs: words with hyphens, which also name a rejection in the metrics.
        headers: Of the answer.
    """

    def __init__(self, status: HTTPStatus, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason, detail, headers)  # from which it is made anew in another process
        self.status, self.reason, self.detail, self.headers = status, reason, detail, dict(headers or {})

    def __str__(self) -> str:
        """Give the detail."""
        return self.detail

    @property
    def transient(self) -> bool:
        """Say whether the same request may succeed later."""
        return "Retry-After" in self.headers

    @property
    def internal(self) -> bool:
        """Say whether it is a fault of the service."""
        return self.status == HTTPStatus.INTERNAL_SERVER_ERROR

    def details(self) -> ProblemDetails:
        """Give it as a document."""
        return ProblemDetails(
            type=f"urn:withhold:{self.reason}", title=self.status.phrase, status=self.status, detail=self.detail
        )

    def response(self) -> JSONResponse:
        """Give it as an answer."""
        return JSONResponse(self.details().model_dump(), self.status, self.headers, MEDIA_TYPE)


def later(
    status: HTTPStatus, reason: str, detail: str, seconds: int, headers: Mapping[str, str] | None = None
) -> Problem:
    """Make a problem that trying again may solve."""
    retry = {"Retry-After": str(seconds), **(headers or {})}
    return Problem(status, reason, f"{detail} Try again in {seconds} s.", retry)


def problem_of(error: Exception) -> Problem:
    """Say what an error means to a client; what is not expected is an internal error, and nothing more."""
    if isinstance(error, Problem):
        return error
    for known, explain in _EXPLAINED.items():
        if isinstance(error, known):
            return explain(error)
    detail = "The service failed, and this is a fault of its own. Its log has more under the Request-Id."
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)


def unauthorized(why: str) -> Problem:
    """Ask for a token."""
    detail = f"A request needs a client's token as `Authorization: Bearer TOKEN`; {why}."
    return Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, CHALLENGE)


def _unreadable(error: UnreadableImage) -> Problem:
    # Where a decoder failed, the message quotes it.
    damaged = "The image is damaged or not complete. Send the whole file, or another one."
    detail = damaged if error.__cause__ is not None else _sentence(str(error))
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "unreadable-image", detail)


def _quota(error: QuotaExceeded) -> Problem:
    detail = f"The quota is {error.images_per_day} images per day (UTC), and {error.used} are used."
    return later(HTTPStatus.TOO_MANY_REQUESTS, "quota", detail, error.retry_after)


def _pair_limit(error: PairLimitReached) -> Problem:
    detail = (
        f"The limit is {error.limit} pairs of original and released image, and {error.held} are held. "
        "Pairs undo protection, so whoever keeps this service decides whether to raise it."
    )
    return Problem(HTTPStatus.FORBIDDEN, "pair-limit", detail)


def _queue_full(error: QueueFull) -> Problem:
    detail = "As many images wait as may."
    return later(HTTPStatus.TOO_MANY_REQUESTS, "queue-full", detail, error.retry_after)


def _stopping(error: Stopping) -> Problem:
    detail = "The service stops and hands this back."
    return later(HTTPStatus.SERVICE_UNAVAILABLE, "stopping", detail, error.retry_after)


def _conflict(_: IdempotencyConflict) -> Problem:
    detail = "This Idempotency-Key was used for other images, labels or speeds. Use a new key for each request."
    return Problem(HTTPStatus.CONFLICT, "idempotency-conflict", detail)


def _no_ledger(_: LedgerUnavailable) -> Problem:
    detail = "The ledger cannot be reached, and nothing is released without it."
    return later(HTTPStatus.SERVICE_UNAVAILABLE, "ledger-unavailable", detail, LEDGER_RETRY)


def _not_releasable(_: RunStopped) -> Problem:
    detail = "The result was not fit to be released. Whoever keeps this service finds the reason in its log."
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "not-releasable", detail)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


_EXPLAINED: Mapping[type[Exception], Callable[[Any], Problem]] = {  # the more special ones first
    UnknownKind: lambda error: Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown-kind", str(error)),
    TooManyPixels: lambda error: Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-many-pixels", str(error)),
    UnreadableImage: _unreadable,
    UnknownClient: lambda _: unauthorized("the token is not known"),
    Unchangeable: lambda error: Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "unchangeable", _sentence(str(error))),
    InvalidInput: lambda error: Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input", _sentence(str(error))),
    QueueFull: _queue_full,
    Stopping: _stopping,
    QuotaExceeded: _quota,
    PairLimitReached: _pair_limit,
    IdempotencyConflict: _conflict,
    LedgerUnavailable: _no_ledger,
    RunStopped: _not_releasable,
}
