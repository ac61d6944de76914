import json
import logging
from io import StringIO

from withhold.errors import RunStopped
from withhold.online.service.logs import Log, Notes, ToLog
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
    logger.addHandler(ToLog(Log(stream)))
    logger.warning("Invalid HTTP request received.")
    try:
        raise ValueError("holiday.png")
    except ValueError:
        logger.exception("Exception in ASGI application\n")
    Notes(Log(stream)).say("The key is open to others.")
    first, second, third = lines(stream)
    assert first["message"] == "Invalid HTTP request received."
    assert (second["message"], second["error"]) == ("Exception in ASGI application", "ValueError")
    assert third["text"] == "The key is open to others."
    assert "holiday" not in stream.getvalue()
