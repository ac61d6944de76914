"""A PostgreSQL server for tests: its own folder, a free port, and stopped by its process id."""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL
from tests.tools import missing

USER, PASSWORD = "withhold", "p@ss/word:1"  # characters that a URL must quote
STARTING_SECONDS = 60
SERVICE_ACCOUNT = "postgres"


def program(name: str) -> Path | None:
    """Find a program of the newest PostgreSQL, on the path or where Debian keeps its versions."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name)
    return kept[-1] if kept else Path(found) if found else None


def why_not() -> str | None:
    """Say what keeps a server from being started here."""
    if program("initdb") is None or program("postgres") is None:
        return "PostgreSQL is not installed"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(SERVICE_ACCOUNT)
        except KeyError:
            return f"PostgreSQL does not run as root, and there is no account {SERVICE_ACCOUNT}"
    return None


class Postgres:
    """A server; `kill` takes it away without warning, and `start` brings it back with what was committed."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        # It refuses to run as root; elsewhere it is started by whoever runs the tests.
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(folder, SERVICE_ACCOUNT)
            self._account = {"user": SERVICE_ACCOUNT, "group": SERVICE_ACCOUNT, "extra_groups": []}
        self._initialise()

    def url(self, schema: str = "public") -> str:
        options = {"options": f"-csearch_path={schema}"}
        made = URL.create("postgresql", USER, PASSWORD, "127.0.0.1", self.port, "postgres", options)
        return made.render_as_string(hide_password=False)

    def new_url(self) -> str:
        """Return the URL of an empty place; a schema, as databases of their own take seconds to make and delete."""
        name = f"place{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        return self.url(name)

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "fsync": "off",  # it is the process that is killed, not the machine
            "max_connections": "60",
            "shared_buffers": "16MB",
            "autovacuum": "off",
        }
        command = [str(program("postgres")), "-D", str(self._data)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._account
            )
        self._wait()

    def kill(self) -> None:
        """End it at once, and every connection with it, as a crash does."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it and its connections in order."""
        self._end(signal.SIGINT)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let all of its processes stand still: connections are there, and nobody answers."""
        assert self._process is not None
        with self._connect() as connection:
            own = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity")]
            pids = [self._process.pid, *own]  # first the one that would start others
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                yield
            finally:
                for pid in reversed(pids):
                    os.kill(pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(STARTING_SECONDS)

    def _initialise(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._account:
            shutil.chown(password, SERVICE_ACCOUNT)
        command = [
            *(str(program("initdb")), "-D", str(self._data), "--username", USER, "--pwfile", str(password)),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
        ]
        subprocess.run(command, cwd=self._folder, **self._account, check=True, capture_output=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + STARTING_SECONDS
        while True:
            try:
                with self._connect():
                    return
            except psycopg.OperationalError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start:\n{(self._folder / 'log').read_text()[-2000:]}")
                threading.Event().wait(0.05)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url(), autocommit=True, connect_timeout=5)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server; a test that kills it starts it again."""
    reason = why_not()
    if reason is not None:
        missing(reason)
    # pytest's own folders are closed to other accounts, and PostgreSQL may run as another one.
    folder = Path(tempfile.mkdtemp(prefix="withhold-postgres-"))
    server = Postgres(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
