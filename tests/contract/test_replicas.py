"""The service on Ray Serve, with two replicas: the contract of a single process, also when a replica is lost."""

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
import pytest
from tests.contract.test_same_bytes import WAYS, Setting, alone, photos
from tests.online.protectors import tiny
from tests.online.service.fakes import png
from tests.online.service.gate import ARCHITECTURE, VARIABLE, bright
from tests.online.service.serving import SECONDS, Serving, until
from tests.tools import package

from withhold.errors import InvalidInput
from withhold.online.ledger import Ledger, default_url
from withhold.online.protector import Protector
from withhold.online.service.problems import problem_of
from withhold.online.settings import SpeedName

package("ray")

pytestmark = pytest.mark.long

REPLICA = "ray::ServeReplica:withhold:crafting"
LISTENS = "0A"
ADDRESSES = dict.fromkeys(("0100007F", "0000000000000000FFFF00000100007F"), "127.0.0.1")
"""As the kernel writes the loopback address, and the same as an address of IPv6."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Setting, Serving]]:
    """A service on one cluster for all tests; the last one ends it."""
    root = tmp_path_factory.mktemp("replicas")
    folder = tiny(root / "protector", architecture=ARCHITECTURE)
    ledger = Ledger.open(default_url(folder))
    token = ledger.add_client("me", pairs=None)
    ledger.close()
    with pytest.MonkeyPatch.context() as here, Serving(folder, "--engine", "ray", "--replicas", "2") as serving:
        here.setenv(VARIABLE, "/there/is/no/such/file")  # in this process, images never stop
        yield Setting(photos(root / "photos"), folder, Protector.load(folder), serving.url, token), serving
        serving.send(signal.SIGTERM)  # if the last test was not among those that ran
        assert serving.ended() == 0


@pytest.mark.parametrize(
    ("way", "speed"), [("http", "full"), ("http", "instant"), ("http many", "quick"), ("http job", "quick")]
)
def test_replicas_give_the_same_bytes(
    served: tuple[Setting, Serving], way: str, speed: SpeedName, tmp_path: Path
) -> None:
    setting, _ = served
    assert WAYS[way](setting, speed, tmp_path) == alone(setting, speed, tmp_path)


def test_what_one_process_refuses_replicas_refuse_in_the_same_words(served: tuple[Setting, Serving]) -> None:
    setting, _ = served
    damaged = httpx.post(
        f"{setting.url}/v1/protect", files={"image": png()[:-30]}, headers=setting.authorization(), timeout=SECONDS
    )
    assert damaged.json() == said_of(setting.protector, png()[:-30], None)
    unknown = httpx.post(
        f"{setting.url}/v1/protect",
        files={"image": png()},
        data={"label": "cow"},
        headers=setting.authorization(),
        timeout=SECONDS,
    )
    assert unknown.json() == said_of(setting.protector, png(), "cow")


def said_of(protector: Protector, content: bytes, label: str | None) -> dict[str, object]:
    """What a single process answers when it cannot accept an image."""
    with pytest.raises(InvalidInput) as found:
        protector.accept(content, label)
    return problem_of(found.value).details().model_dump(mode="json")


def test_a_lost_replica_loses_no_image(served: tuple[Setting, Serving]) -> None:
    setting, serving = served
    files = [png(seed) for seed in range(100, 124)]

    def post(file: bytes) -> httpx.Response:
        return httpx.post(
            f"{setting.url}/v1/protect",
            files={"image": file},
            data={"label": "dog", "speed": "quick"},
            headers=setting.authorization(),
            timeout=SECONDS,
        )

    before = replicas_of(serving.pid)
    assert len(before) == 2
    with ThreadPoolExecutor(4) as clients:
        answers = {clients.submit(post, file): file for file in files}
        next(as_completed(answers))  # some images are answered, others are in work, others wait
        os.kill(before[0], signal.SIGKILL)
        for answer in as_completed(answers):
            assert answer.result().status_code == 200, answer.result().text
            expected = setting.protector.protect(answers[answer], "dog", speed="quick").content
            assert answer.result().content == expected
    until(lambda: len(replicas_of(serving.pid)) == 2, "another replica")
    assert replicas_of(serving.pid) != before


def test_it_listens_on_this_machine_only(served: tuple[Setting, Serving]) -> None:
    _, serving = served
    found = listening(serving.pid)
    assert f"127.0.0.1:{serving.port}" in found
    assert [each for each in found if not each.startswith("127.0.0.1:")] == []


def test_at_the_end_it_finishes_what_it_accepted(served: tuple[Setting, Serving]) -> None:
    """The last test, for nothing is served after it."""
    setting, serving = served

    def post(file: bytes) -> httpx.Response:
        return httpx.post(
            f"{serving.url}/v1/protect", files={"image": file}, headers=setting.authorization(), timeout=SECONDS
        )

    serving.close_gate()
    with ThreadPoolExecutor(1) as clients:
        begun = clients.submit(post, bright(1))
        until(lambda: serving.metric("withhold_queue_images"), "the image to be in work")
        serving.send(signal.SIGTERM)
        until(lambda: httpx.get(f"{serving.url}/health/ready").status_code == 503, "the service to stop")
        late = post(png(1))
        assert (late.status_code, late.json()["type"]) == (503, "urn:withhold:stopping")
        serving.open_gate()
        assert begun.result().status_code == 200
    assert serving.ended() == 0
    events = [line["event"] for line in serving.lines()]
    assert [event for event in events if event != "cluster"] == ["starting", "starting", "listening", "stopping"]
    assert events[-1] == "stopping"


def listening(pid: int) -> list[str]:
    """List the addresses that a process and its descendants listen on; each replica has a port that Ray fixes."""
    sockets = set[str]()
    for each in [pid, *descendants(pid)]:
        if "ray::ServeReplica" in command_of(each):
            continue
        for handle in Path(f"/proc/{each}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(str(handle.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                found.append(f"{ADDRESSES.get(address, address)}:{int(port, 16)}")
    return found


def replicas_of(pid: int) -> list[int]:
    """List the processes of replicas among the descendants of a process."""
    return sorted(each for each in descendants(pid) if REPLICA in command_of(each))


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            child, parent = int(status.parent.name), int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(child)
    found, waiting = [], [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
