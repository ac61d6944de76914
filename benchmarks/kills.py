"""What a service under load loses when it, or its database, is killed again and again. Prints JSON.

    python -m benchmarks.kills
    python -m benchmarks.kills --seconds 600 --every 20 --connections 16

Clients send single images, and every second time one as a job, each under a key of its own and again under the same
key until they have the answer: all as the documentation says. In between the service gets SIGKILL and is started
again, and PostgreSQL is ended as a crash ends it and comes back two seconds later. At the end every image must have
its answer, with the bytes that this process gives, and one line in the ledger.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import torch
from tests.online.postgres import Postgres
from tests.online.service.serving import Serving

from benchmarks.online import pictures, protector_of
from withhold.online.ledger import Ledger
from withhold.online.settings import SPEEDS, OnlineSettings, SpeedName

PICTURES = 40
AWAY = 2.0
"""Seconds for which the database is gone."""

PAUSE = 0.25
"""Seconds before a client tries again, or asks again for its job."""


@dataclass
class Target:
    """A service and its database, which are killed and come back while clients use them."""

    folder: Path
    database: Postgres
    ledger: str
    kills: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        """Start the service, on a port of its own each time."""
        self.serving = Serving(self.folder, WITHHOLD_LEDGER=self.ledger)

    def kill_service(self) -> None:
        """Kill it, and start another one."""
        self.kills["service"] += 1
        self.serving.kill()
        self.start()

    def kill_database(self) -> None:
        """Take the database away for a while."""
        self.kills["database"] += 1
        self.database.kill()
        time.sleep(AWAY)
        self.database.start()


@dataclass
class Outcome:
    """What clients saw.

    Attributes:
        answers: By what came back; exceptions by their names.
        seconds: From the first request for an image until its answer.
        jobs: That were accepted.
        wrong: Answers with other bytes.
    """

    answers: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    jobs: int = 0
    wrong: int = 0


@dataclass
class Client:
    """Sends images one after the other, and each until it is answered."""

    target: Target
    token: str
    speed: SpeedName
    outcome: Outcome = field(default_factory=Outcome)

    def send(self, picture: bytes, expected: bytes, *, as_job: bool) -> None:
        """Have one image protected."""
        began, key = time.monotonic(), uuid.uuid4().hex
        content = self._job(picture, key) if as_job else self._single(picture, key)
        self.outcome.seconds.append(time.monotonic() - began)
        self.outcome.wrong += content != expected

    def _single(self, picture: bytes, key: str) -> bytes:
        form = {"label": "0", "speed": self.speed}
        return self._until(200, "POST", "/v1/protect", key, data=form, files={"image": picture}).content

    def _job(self, picture: bytes, key: str) -> bytes:
        form = {"labels": "0", "speed": self.speed}
        accepted = self._until(202, "POST", "/v1/jobs", key, data=form, files=[("images", ("a.png", picture))])
        self.outcome.jobs += 1
        place = accepted.headers["Location"]
        while self._until(200, "GET", place).json()["state"] not in {"done", "failed"}:
            time.sleep(PAUSE)
        with ZipFile(BytesIO(self._until(200, "GET", f"{place}/released").content)) as files:
            return next(files.read(name) for name in files.namelist() if name != "released.json")

    def _until(self, wanted: int, method: str, path: str, key: str | None = None, **form: Any) -> httpx.Response:  # noqa: ANN401
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Idempotency-Key": key} if key else {})
        while True:
            try:
                answer = httpx.request(method, self.target.serving.url + path, headers=headers, timeout=60, **form)
            except httpx.TransportError as error:
                self.outcome.answers[type(error).__name__] += 1
            else:
                self.outcome.answers[str(answer.status_code)] += 1
                if answer.status_code == wanted:
                    return answer
                if answer.status_code not in {409, 429, 503}:
                    msg = f"{method} {path}: {answer.status_code} {answer.text}"
                    raise RuntimeError(msg)
            time.sleep(PAUSE)


def load(target: Target, clients: list[Client], expected: Mapping[bytes, bytes], args: argparse.Namespace) -> int:
    """Let clients send images, and kill what they use, until the time is over; return how many were sent."""
    numbers, over = itertools.count(), threading.Event()
    contents = list(expected)

    def work(client: Client) -> int:
        for sent in itertools.count():
            if over.is_set():
                return sent
            number = next(numbers)
            picture = contents[number % len(contents)]
            client.send(picture, expected[picture], as_job=number % 2 == 1)
        raise AssertionError

    kinds: list[Callable[[], None]] = [target.kill_service, target.kill_database]
    with ThreadPoolExecutor(len(clients)) as pool:
        working = [pool.submit(work, client) for client in clients]
        ending = time.monotonic() + args.seconds
        for kill in itertools.cycle(kinds):
            if over.wait(min(args.every, max(0.0, ending - time.monotonic()))) or time.monotonic() >= ending:
                break
            kill()
        over.set()
        return sum(each.result() for each in working)


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two kills")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--speed", choices=SPEEDS, default="quick")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as data:
        protector = protector_of(args.side, OnlineSettings(device="cpu"), Path(place) / "protector")
        expected = {
            each: protector.protect(each, "0", speed=args.speed).content for each in pictures(args.side, PICTURES)
        }
        database = Postgres(Path(data))
        database.start()
        try:
            url = database.new_url()
            ledger = Ledger.open(url)
            token = ledger.add_client("load", images_per_day=None, pairs=None)
            target = Target(Path(place) / "protector", database, url)
            target.start()
            clients = [Client(target, token, args.speed) for _ in range(args.connections)]
            try:
                with_answer = load(target, clients, expected, args)
            finally:
                target.serving.kill()
            recorded = sum(1 for _ in ledger.entries("load"))
            ledger.close()
        finally:
            database.stop()
    outcomes = [client.outcome for client in clients]
    seconds = [each for outcome in outcomes for each in outcome.seconds]
    print(
        json.dumps(
            {
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "side": args.side,
                "speed": args.speed,
                "connections": args.connections,
                "seconds": args.seconds,
                "kills": dict(target.kills),
                "images_with_an_answer": with_answer,
                "jobs_accepted": sum(outcome.jobs for outcome in outcomes),
                "answers_with_other_bytes": sum(outcome.wrong for outcome in outcomes),
                "lines_in_the_ledger": recorded,
                "answers": dict(sum((outcome.answers for outcome in outcomes), Counter())),
                "median_seconds_to_the_answer": round(statistics.median(seconds), 2),
                "longest_seconds_to_the_answer": round(max(seconds), 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
