"""Headless Chromium, driven through two pipes: no server, no port, and no package beyond Python's own."""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

Event = dict[str, Any]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-quic",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-default-browser-check",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PATIENCE = 120.0
FIRST_FREE = 10
LOWEST_FOR_COMMANDS, LOWEST_FOR_ANSWERS = 3, 4


class Browser:
    """One browser with one page; what the page requested, logged and threw is kept."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        commands, answers = os.pipe(), os.pipe()
        # Chromium reads descriptor 3 and writes 4; the pipes' own must not be among those two.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE) for end in (commands[0], answers[1])]
        self._process = os.posix_spawn(
            CHROMIUM,
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            {**os.environ, "HOME": str(profile)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 2, str(profile / "stderr"), os.O_WRONLY | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, ends[0], LOWEST_FOR_COMMANDS),
                (os.POSIX_SPAWN_DUP2, ends[1], LOWEST_FOR_ANSWERS),
            ],
            setpgroup=0,
        )
        for end in (*ends, commands[0], answers[1]):
            os.close(end)
        self._write, self._read = commands[1], answers[0]
        self._buffer = b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[Event] = []
        (target,) = [each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:  # noqa: ANN401
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> Event:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium ended"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        parsed: Event = json.loads(message)
        return parsed

    def show(self, page: Path, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Load a file at a size, as a phone where it is narrow."""
        self.open(page.as_uri(), width, height, dark=dark)

    def open(self, address: str, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Load an address at a size."""
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def run(self, script: str) -> Any:  # noqa: ANN401
        """Return the value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key, as a user does."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        image = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(image["data"]))

    def problems(self) -> list[Event]:
        """Return what was thrown, and what was logged as an error."""
        return [
            event
            for event in self.events
            if event.get("method") == "Runtime.exceptionThrown"
            or (event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] == "error")
            or (event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] in {"error", "warning"})
        ]

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for, its own included; pictures inside it are none."""
        asked = [event["params"]["request"]["url"] for event in self.events if _is_request(event)]
        return [address for address in asked if not address.startswith("data:")]

    def close(self) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self._session = None
            self.send("Browser.close")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._write)
        os.close(self._read)


def _is_request(event: Event) -> bool:
    return event.get("method") == "Network.requestWillBeSent"
