import hashlib
import io
import json
import signal
import socket
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.online.protectors import tiny
from tests.online.service.fakes import png
from tests.online.service.gate import ARCHITECTURE, VARIABLE, bright
from tests.online.service.serving import SECONDS, Serving, until

from withhold.errors import InvalidInput
from withhold.online.ledger import Ledger, default_url
from withhold.online.protector import Protector
from withhold.online.service.logs import Log
from withhold.online.service.server import Places, application, bound
from withhold.online.service.settings import ServiceSettings


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture(autouse=True)
def no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, images never stop."""
    monkeypatch.setenv(VARIABLE, "/there/is/no/such/file")


def prepared(folder: Path) -> tuple[Path, dict[str, str]]:
    """A protector that stops at bright images while the gate is closed, and the headers of a client."""
    made = tiny(folder, architecture=ARCHITECTURE)
    ledger = Ledger.open(default_url(made))
    token = ledger.add_client("me")
    ledger.close()
    return made, {"Authorization": f"Bearer {token}"}


def recorded(protector: Path) -> list[str]:
    """The originals in the ledger, in their order."""
    ledger = Ledger.open(default_url(protector))
    found = [row.sha256_before for row in ledger.entries()]
    ledger.close()
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def post(url: str, content: bytes, headers: dict[str, str], **data: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/protect", files={"image": content}, data=data, headers=headers, timeout=SECONDS)


def begun(serving: Serving, count: int) -> None:
    until(lambda: serving.metric("withhold_queue_images") == count, f"{count} images in work")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Path, dict[str, str]]]:
    folder, headers = prepared(tmp_path_factory.mktemp("server") / "p")
    options = ("--receive-timeout", "0.5", "--max-bytes", "200000", "--max-queue", "2")
    with Serving(folder, *options) as serving:
        yield serving, folder, headers


def test_a_real_client_gets_what_the_protector_gives(service: tuple[Serving, Path, dict[str, str]]) -> None:
    serving, folder, headers = service
    assert httpx.get(f"{serving.url}/health/ready").json() == {"status": "ready"}
    response = post(serving.url, png(1), headers, label="cat", speed="instant")
    assert response.status_code == 200
    assert response.content == protected(folder, png(1), label="cat", speed="instant")


def answered(connection: socket.socket) -> bytes:
    """Read until the service closes."""
    received = b""
    while piece := connection.recv(4096):
        received += piece
    return received


def head(headers: dict[str, str], length: int) -> bytes:
    lines = [
        "POST /v1/protect HTTP/1.1",
        "Host: service",
        "Content-Type: multipart/form-data; boundary=x",
        f"Content-Length: {length}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_slow_sender_is_told_so_and_cut_off(service: tuple[Serving, Path, dict[str, str]]) -> None:
    serving, _, headers = service
    with serving.connect() as connection:
        connection.sendall(head(headers, 1000) + b"--x\r\n")
        answer = answered(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:withhold:too-slow" in answer


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(
    service: tuple[Serving, Path, dict[str, str]],
) -> None:
    serving, _, headers = service
    with serving.connect() as connection:
        connection.sendall(head(headers, 10**12))
        answer = answered(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"urn:withhold:too-large" in answer
    assert post(serving.url, b"x" * 10_000_000, headers).status_code == 413


def test_a_stranger_is_refused_before_the_body_comes(service: tuple[Serving, Path, dict[str, str]]) -> None:
    serving, _, _ = service
    with serving.connect() as connection:
        connection.sendall(head({"Authorization": "Bearer wrong"}, 100_000))
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("sent", [b"", b"POST /v1/protect HTTP/1.1\r\nHost:"])
def test_a_client_that_asks_for_nothing_is_cut_off(service: tuple[Serving, Path, dict[str, str]], sent: bytes) -> None:
    serving, _, _ = service
    with serving.connect() as connection:
        connection.sendall(sent)
        assert answered(connection) == b""


def test_a_stranger_that_goes_on_sending_is_cut_off(service: tuple[Serving, Path, dict[str, str]]) -> None:
    serving, _, _ = service
    with serving.connect() as connection:
        connection.sendall(head({"Authorization": "Bearer wrong"}, 10**5))
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
        connection.settimeout(0.01)

        def closed() -> bool:
            try:
                connection.sendall(b"x")
                return connection.recv(4096) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(closed, "the end of the connection")


def test_a_client_that_is_quiet_between_requests_is_not_cut_off_at_once(
    service: tuple[Serving, Path, dict[str, str]],
) -> None:
    serving, _, headers = service
    with httpx.Client(base_url=serving.url, headers=headers, timeout=SECONDS) as client:
        for _ in range(3):
            assert client.post("/v1/protect", files={"image": png(1)}, data={"speed": "instant"}).status_code == 200


def test_a_client_that_hangs_up_leaves_the_queue_and_the_others_go_on(
    service: tuple[Serving, Path, dict[str, str]], pool: ThreadPoolExecutor
) -> None:
    serving, folder, headers = service
    before = len(recorded(folder))
    serving.close_gate()
    first = pool.submit(post, serving.url, bright(10), headers)
    begun(serving, 1)
    request = httpx.Request("POST", serving.url, files={"image": png(11)})
    body = request.read()
    boundary = request.headers["content-type"].rpartition("=")[2].encode()
    with serving.connect() as connection:
        connection.sendall(head(headers, len(body)).replace(b"boundary=x", b"boundary=" + boundary) + body)
        begun(serving, 2)
        response = post(serving.url, png(12), headers)  # the queue of two is full
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
    begun(serving, 1)
    serving.open_gate()
    assert first.result().status_code == 200
    assert post(serving.url, png(12), headers, speed="instant").status_code == 200
    assert recorded(folder)[before:] == [sha256(bright(10)), sha256(png(12))]
    until(lambda: [line for line in serving.lines("request") if line["status"] == 499], "the log to say so")


def test_what_was_accepted_is_finished_before_the_service_ends(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    folder, headers = prepared(tmp_path / "p")
    with Serving(folder) as serving:
        serving.close_gate()
        work = [pool.submit(post, serving.url, bright(seed), headers) for seed in (1, 2)]
        begun(serving, 2)
        serving.send(signal.SIGTERM)
        until(lambda: serving.lines("stopping"), "the service to stop")
        late = post(serving.url, png(3), headers)
        assert (late.status_code, late.headers["retry-after"]) == (503, "10")
        assert httpx.get(f"{serving.url}/health/ready").status_code == 503
        serving.open_gate()
        for seed, response in zip((1, 2), work, strict=True):
            assert response.result().content == protected(folder, bright(seed))
        assert serving.ended() == 0


def protected(folder: Path, content: bytes, **chosen: Any) -> bytes:  # noqa: ANN401
    return Protector.load(folder).protect(content, **chosen).content


def posted_job(serving: Serving, contents: list[bytes], headers: dict[str, str]) -> str:
    files = [("images", ("any", content)) for content in contents]
    response = httpx.post(f"{serving.url}/v1/jobs", files=files, headers=headers, timeout=SECONDS)
    assert response.status_code == 202
    return str(response.headers["location"])


def report(serving: Serving, job: str, headers: dict[str, str]) -> dict[str, Any]:
    return dict(httpx.get(f"{serving.url}{job}", headers=headers, timeout=SECONDS).json())


def check_job(serving: Serving, folder: Path, job: str, contents: list[bytes], headers: dict[str, str]) -> None:
    """Wait for a job, and compare what it released with the protector's own work."""
    until(lambda: report(serving, job, headers)["state"] == "done", "the job")
    response = httpx.get(f"{serving.url}{job}/released", headers=headers, timeout=SECONDS)
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        for number, content in enumerate(contents, 1):
            assert archive.read(f"{number}.png") == protected(folder, content)


def test_a_kill_loses_nothing_that_was_accepted_and_what_is_not_finished_in_time_is_handed_back(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    folder, headers = prepared(tmp_path / "p")
    contents = [png(1), png(2), bright(3), png(4)]
    with Serving(folder) as serving:
        serving.close_gate()
        job = posted_job(serving, contents, headers)
        until(lambda: report(serving, job, headers)["done"] == 2, "a part of the job")
        single = pool.submit(post, serving.url, bright(9), {**headers, "Idempotency-Key": "k"})
        begun(serving, 2)
        serving.kill()
        assert isinstance(single.exception(), httpx.TransportError)
    with Serving(folder, "--shutdown-timeout", "0", WITHHOLD_LEDGER=default_url(folder)) as serving:
        retried = post(serving.url, bright(9), {**headers, "Idempotency-Key": "k"})
        assert retried.content == protected(folder, bright(9))
        check_job(serving, folder, job, contents, headers)
        usage = httpx.get(f"{serving.url}/v1/usage", headers=headers).json()
        serving.close_gate()
        late = pool.submit(post, serving.url, bright(20), headers)
        begun(serving, 1)
        serving.send(signal.SIGTERM)
        response = late.result()
        assert (response.status_code, response.headers["retry-after"]) == (503, "10")
        serving.open_gate()
        assert serving.ended() == 0
    assert (usage["images_today"], usage["pairs"]) == (5, 5)
    assert sorted(recorded(folder)) == sorted(sha256(content) for content in [*contents, bright(9)])
    assert not list(folder.glob("spool/*/*.original"))


def test_a_first_start_says_how_to_make_a_client(tmp_path: Path) -> None:
    folder, text = tiny(tmp_path / "p"), StringIO()
    for ledger, said in ((None, f"--protector {folder}"), (default_url(folder), "--ledger URL")):
        with application(Places(folder, ledger), ServiceSettings(), Log(text)):
            pass
        assert (
            f"make one with `withhold online client add NAME {said}`"
            in json.loads(text.getvalue().splitlines()[-1])["text"]
        )
    prepared(tmp_path / "q")
    with application(Places(tmp_path / "q"), ServiceSettings(), Log(text)):
        pass
    assert len(text.getvalue().splitlines()) == 2


def test_a_port_that_is_taken_is_refused_before_anything_heavy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"cannot listen on port {port}.*--port"), bound("127.0.0.1", port):
            pass


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidInput, match="--host"), bound("192.0.2.1", 0):
        pass
    with pytest.raises(InvalidInput, match="--host"), bound("no such host", 0):
        pass


def test_a_second_signal_ends_at_once_whatever_is_in_work(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    folder, headers = prepared(tmp_path / "p")
    with Serving(folder) as serving:
        serving.close_gate()
        work = pool.submit(post, serving.url, bright(1), headers)
        begun(serving, 1)
        serving.send(signal.SIGTERM)
        until(lambda: serving.lines("stopping"), "the service to stop")
        serving.send(signal.SIGTERM)
        assert serving.ended() == -signal.SIGTERM
        assert isinstance(work.exception(), httpx.TransportError)
