import contextlib
import json
import logging
from io import StringIO
from pathlib import Path

import pytest
from tests.online.service.fakes import FakeCrafting, png, running

from withhold.errors import RunStopped
from withhold.online.service.logs import Log, Notes, Printed, ToLog
from withhold.online.service.problems import problem_of


def lines(stream: StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_a_document_without_empty_fields() -> None:
    stream = StringIO()
    Log(stream).event("request", status=200, client=None)
    (line,) = lines(stream)
    timestamp = str(line.pop("timestamp"))
    assert line == {"event": "request", "status": 200, "level": "info"}
    assert timestamp.endswith("Z")


def test_an_unexpected_error_is_traced_without_its_text() -> None:
    stream = StringIO()
    try:
        raise ValueError("holiday.png")
    except ValueError as error:
        Log(stream).failure(problem_of(error), error, request="12")
    (line,) = lines(stream)
    assert (line["error"], line["level"], line["request"]) == ("ValueError", "error", "12")
    assert "test_logs.py" in str(line["frames"])
    assert "holiday" not in stream.getvalue()


def test_what_we_say_ourselves_of_a_result_is_logged_and_what_clients_do_wrong_is_no_failure() -> None:
    stream = StringIO()
    unfit = RunStopped("the largest change is 0")
    Log(stream).failure(problem_of(unfit), unfit)
    refused = problem_of(unfit)
    refused.status = type(refused.status)(422)
    Log(stream).failure(refused, unfit)
    (line,) = lines(stream)
    assert line["said"] == "the largest change is 0"


def test_the_servers_own_messages_are_lines_too() -> None:
    stream = StringIO()
    logger = logging.Logger("other")
    logger.addHandler(ToLog(Log(stream), "server"))
    logger.warning("Invalid HTTP request received.")
    try:
        raise ValueError("holiday.png")
    except ValueError:
        logger.exception("Exception in ASGI application\n")
    Notes(Log(stream)).say("The key is open to others.")
    first, second, third = lines(stream)
    assert (first["event"], first["message"]) == ("server", "Invalid HTTP request received.")
    assert (second["message"], second["error"]) == ("Exception in ASGI application", "ValueError")
    assert third["text"] == "The key is open to others."
    assert "holiday" not in stream.getvalue()


def test_what_a_library_prints_is_a_line_for_each_piece() -> None:
    stream, text = StringIO(), "(raylet) A worker was killed:\nthere is not enough memory."
    with contextlib.redirect_stdout(Printed(Log(stream), "cluster")):
        print(text)  # noqa: T201
        print()  # noqa: T201
    (line,) = lines(stream)
    assert (line["event"], line["message"]) == ("cluster", text)


@pytest.mark.anyio
async def test_what_fails_names_its_request_or_its_job(tmp_path: Path) -> None:
    crafting = FakeCrafting()
    crafting.errors = {png(1): RuntimeError("unexpected"), png(2): RunStopped("the largest change is 0")}
    async with running(tmp_path, crafting=crafting) as service:
        responses = [await service.send_many("/v1/protect/many", [png(seed), png(3)]) for seed in (1, 2)]
        responses.append(await service.protect(png(2)))
        failed = service.logged("failed")
        assert [line["request"] for line in failed] == [each.headers["request-id"] for each in responses]
        job = (await service.send_many("/v1/jobs", [png(1)])).json()["id"]
        await service.finished(job)
    line = service.logged("failed")[-1]
    assert line["job"] == job
    assert "request" not in line
