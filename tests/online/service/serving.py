"""`withhold serve` as a process of its own, as users start it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from tests.online.service.gate import VARIABLE

ROOT = Path(__file__).parents[3]
SECONDS = 400.0


def until(condition: Callable[[], object], what: str) -> Any:  # noqa: ANN401 - whatever the condition gives
    """Poll a condition until it gives something, and return that."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        threading.Event().wait(0.02)
    msg = f"waited in vain for {what}"
    raise AssertionError(msg)


class Serving:
    """A running service; leaving the block kills it if it still runs.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, protector: Path, *options: str, **environment: str) -> None:
        self._log = protector.parent / f"{protector.name}.log"
        self._log.write_bytes(b"")
        self._gate = protector.parent / "gate"
        self.open_gate()
        command = [str(Path(sys.executable).with_name("withhold")), "serve", str(protector), "--port", "0", *options]
        # The surrogate of a test's protector is a function of the tests.
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            **environment,
            VARIABLE: str(self._gate),
        }
        with self._log.open("ab") as log:
            # Nothing is printed; if it were, it would be no line of the log.
            self._process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.port = int(until(self._listening, "the service to listen")["port"])
        except BaseException:
            self.kill()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Read the log; every line of it is a document."""
        found = [json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in found if event in {None, line["event"]}]

    def close_gate(self) -> None:
        """Stop at bright images, those of `bright`."""
        self._gate.touch()

    def open_gate(self) -> None:
        """Go on."""
        self._gate.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, sent: signal.Signals) -> None:
        self._process.send_signal(sent)

    def ended(self) -> int:
        """Wait for the end, and return the exit code."""
        return self._process.wait(SECONDS)

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.wait()

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=SECONDS).text
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def _listening(self) -> dict[str, Any] | None:
        if self._process.poll() is not None:
            msg = f"the service ended at once: {self._log.read_text()}"
            raise AssertionError(msg)
        return next(iter(self.lines("listening")), None)
