import pytest

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
from withhold.online.service.problems import Problem, later, problem_of
from withhold.online.service.uploads import TooManyPixels, UnknownKind

SECRET = "/home/me/holiday.png"


def damaged() -> UnreadableImage:
    error = UnreadableImage(f"not a complete image ({SECRET})")
    error.__cause__ = OSError(SECRET)
    return error


@pytest.mark.parametrize(
    ("error", "status", "reason", "headers"),
    [
        (UnknownKind("No image."), 415, "unknown-kind", {}),
        (TooManyPixels("Too many."), 413, "too-many-pixels", {}),
        (UnreadableImage("expected a still picture, got several frames"), 422, "unreadable-image", {}),
        (damaged(), 422, "unreadable-image", {}),
        (InvalidInput("unknown label 'x'"), 422, "invalid-input", {}),
        (Unchangeable("no pixel could be changed"), 422, "unchangeable", {}),
        (UnknownClient(SECRET), 401, "unauthorized", {"WWW-Authenticate": 'Bearer realm="withhold"'}),
        (QueueFull(7), 429, "queue-full", {"Retry-After": "7"}),
        (Stopping(9), 503, "stopping", {"Retry-After": "9"}),
        (QuotaExceeded(1, 10, 10, 3600), 429, "quota", {"Retry-After": "3600"}),
        (PairLimitReached(1, 500, 500), 403, "pair-limit", {}),
        (IdempotencyConflict(SECRET), 409, "idempotency-conflict", {}),
        (LedgerUnavailable(SECRET), 503, "ledger-unavailable", {"Retry-After": "5"}),
        (RunStopped(SECRET), 500, "not-releasable", {}),
        (RuntimeError(SECRET), 500, "internal-error", {}),
    ],
)
def test_every_error_has_its_status_and_a_sentence_of_ours(
    error: Exception, status: int, reason: str, headers: dict[str, str]
) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.reason, problem.headers) == (status, reason, headers)
    assert SECRET not in problem.detail
    assert problem.detail[0].isupper()
    assert problem.detail.endswith((".", "?"))
    assert problem.internal == (status == 500)
    assert problem.transient == ("Retry-After" in headers)
    response = problem.response()
    assert response.media_type == "application/problem+json"
    assert problem.details().type == f"urn:withhold:{reason}"


def test_numbers_that_help_are_stated() -> None:
    assert "500" in problem_of(PairLimitReached(1, 500, 500)).detail
    assert "10 images per day" in problem_of(QuotaExceeded(1, 9, 10, 60)).detail
    assert "Try again in 7 s." in problem_of(QueueFull(7)).detail
    assert "several frames" in problem_of(UnreadableImage("expected a still picture, got several frames")).detail


def test_a_problem_stays_what_it_is() -> None:
    problem = later(problem_of(QueueFull(1)).status, "busy", "Much to do.", 4)
    assert problem_of(problem) is problem
    assert isinstance(problem, Problem)
