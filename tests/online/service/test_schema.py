"""Requests of every kind that the OpenAPI document allows, and of many that it does not, against a real server."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.online.service.fakes import SPOOL_SECRET, FakeCrafting, png
from tests.online.service.serving import until

from withhold.online.ledger import Ledger
from withhold.online.service.app import create_app
from withhold.online.service.logs import Log
from withhold.online.service.server import Server, bound
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.spool import Spool

Example = Case[Any]
EXAMPLES = 20


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a service, and the token of a client."""
    folder: Path = tmp_path_factory.mktemp("schema")
    spool = Spool.open(folder / "spool", SPOOL_SECRET)
    ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}")
    token = ledger.add_client("me", pairs=None)
    log, chosen = Log(), ServiceSettings(max_jobs=5)
    server = Server(create_app(FakeCrafting(), ledger, chosen, spool, log=log), chosen, log)
    with bound("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        until(lambda: server.started, "the server")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", token
        server.should_exit = True
        thread.join()
    ledger.close()
    spool.close()


@pytest.fixture(scope="module")
def document(served: tuple[str, str]) -> Any:  # noqa: ANN401
    return schemathesis.openapi.from_url(f"{served[0]}/openapi.json")


OPERATIONS = (
    *(("POST", "/v1/protect"), ("POST", "/v1/protect/many"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/{job}")),
    *(("GET", "/v1/jobs/{job}/released"), ("DELETE", "/v1/jobs/{job}"), ("GET", "/v1/protector"), ("GET", "/v1/usage")),
    *(("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics")),
)
WITHOUT_INPUT = frozenset({"/health/live", "/health/ready", "/metrics"})
CASES = [
    *((*each, GenerationMode.POSITIVE) for each in OPERATIONS),
    *((*each, GenerationMode.NEGATIVE) for each in OPERATIONS if each[1] not in WITHOUT_INPUT),
]


def test_no_operation_is_left_out(document: Any) -> None:  # noqa: ANN401
    found = {(each.ok().method.upper(), each.ok().path) for each in document.get_all_operations()}
    assert found == set(OPERATIONS)


def examples(document: Any, method: str, path: str, mode: GenerationMode, check: Callable[[Example], None]) -> None:  # noqa: ANN401
    """Check requests that are drawn from the document."""
    bounded = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    bounded(given(case=document[path][method].as_strategy(generation_mode=mode))(check))()


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_every_answer_is_as_the_document_says(
    document: Any,  # noqa: ANN401
    served: tuple[str, str],
    method: str,
    path: str,
    mode: GenerationMode,
) -> None:
    """What is as the document says is answered so, and what is not is refused."""

    def check(case: Example) -> None:
        # A file of arbitrary bytes is as the document says, but no image.
        case.call_and_validate(headers=headers(served), excluded_checks=[positive_data_acceptance])

    examples(document, method, path, mode, check)


@pytest.mark.parametrize(("path", "field"), [("/v1/protect", "image"), ("/v1/protect/many", "images")])
def test_images_are_accepted_whatever_is_said_beside_them(
    document: Any,  # noqa: ANN401
    served: tuple[str, str],
    path: str,
    field: str,
) -> None:
    accepted = []

    def check(case: Example) -> None:
        assert isinstance(case.body, dict)
        number = len(str(case.body.get(field)))
        content: Any = png(number) if field == "image" else [png(number), png(number + 1)]
        body: dict[str, Any] = {field: content}
        if "speed" in case.body:
            body["speed"] = case.body["speed"]
        response = (
            document[path]["POST"]
            .Case(body=body, headers=case.headers, media_type="multipart/form-data")
            .call_and_validate(headers=headers(served))
        )
        accepted.append(response.status_code)

    examples(document, "POST", path, GenerationMode.POSITIVE, check)
    assert set(accepted) <= {200, 409}
    assert 200 in accepted


def headers(served: tuple[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {served[1]}"}
