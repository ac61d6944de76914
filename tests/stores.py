"""An S3-compatible server on loopback, and stores that fail on purpose."""

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from withhold.data import object_path, object_store

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Start moto as a process of its own, and end that one again.

    Yields:
        Its endpoint.
    """
    program = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            lines = iter(server.stderr.readline, "")
            endpoint = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            threading.Thread(target=lambda: list(lines), daemon=True).start()  # the server must not wait for a reader
            yield endpoint
        finally:
            server.kill()


@dataclass
class Bucket:
    """A bucket, seen by a client that knows nothing of Withhold."""

    name: str
    endpoint: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @functools.cached_property
    def client(self) -> Any:  # noqa: ANN401
        import boto3  # noqa: PLC0415

        return boto3.client("s3", endpoint_url=self.endpoint)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_tree(self, key: str, folder: Path) -> str:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(folder)}", path.read_bytes())
        return f"{self.url}/{key}"

    def keys(self, key: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{key}/")
        return [each["Key"].removeprefix(f"{key}/") for page in pages for each in page.get("Contents", [])]

    def tree(self, key: str) -> dict[str, bytes]:
        """Every object below a key, with its content."""
        found = self.keys(key)
        return {k: self.client.get_object(Bucket=self.name, Key=f"{key}/{k}")["Body"].read() for k in found}


@dataclass
class Patched:
    """A file system of fsspec with something in front of every operation.

    Attributes:
        before: Called with the operation's name, the operation itself and its arguments; returns what it returns.
    """

    store: Any
    before: Callable[..., Any]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return functools.partial(self.before, name, getattr(self.store, name))


def patch(monkeypatch: pytest.MonkeyPatch, before: Callable[..., Any]) -> None:
    """Put something in front of every operation on a store."""
    monkeypatch.setattr(object_path, "open_store", lambda scheme: Patched(object_store.open_store(scheme), before))


@dataclass
class Failing:
    """Fails 0 to 3 times at each operation: before it, after it, or with half of an object written."""

    failed: int = 0
    _seen: dict[str, int] = field(default_factory=dict)
    _attempts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, name: str, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401
        key = f"{name} {args[0]} {options}"
        with self._lock:
            failures = self._seen.setdefault(key, len(self._seen)) % 4
            self._attempts[key] += 1
            attempt = self._attempts[key]
            self.failed += attempt <= failures
        if attempt > failures:
            return operation(*args, **options)
        if attempt == 1:
            operation(*args, **options)
        if attempt == 2 and name == "pipe_file":
            operation(args[0], args[1][: len(args[1]) // 2])
        raise OSError("the line was cut")


@dataclass
class Breaking:
    """Fails for good once so many objects were written.

    Attributes:
        written: The objects, in order.
    """

    after: int
    written: list[str] = field(default_factory=list)

    def __call__(self, name: str, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if name in {"pipe_file", "put_file"}:
            if len(self.written) >= self.after:
                raise OSError("the line is dead")
            self.written.append(args[0] if name == "pipe_file" else args[1])
        return operation(*args, **options)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, parts of files included."""

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        part = path.read_bytes()[int(wanted[1]) : int(wanted[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http_server(folder: Path, handler: type[http.server.SimpleHTTPRequestHandler] = Handler) -> Iterator[str]:
    """Serve a folder on loopback.

    Yields:
        Its URL.
    """
    made = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def environment(endpoint: str) -> dict[str, str]:
    """What a process needs to reach the server, beside what it has."""
    return {**os.environ, **CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}
