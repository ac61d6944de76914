"""The connection to a ledger's database: its URL, its transactions, and what is said when it is away."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Dialect, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from withhold.errors import InvalidInput
from withhold.online.ledger.errors import LedgerUnavailable
from withhold.online.ledger.migrating import migrate
from withhold.online.ledger.settings import LedgerSettings

if TYPE_CHECKING:
    from withhold.online.ledger.postgresql import PatientConnection

SQLITE, POSTGRESQL = "sqlite", "postgresql+psycopg"
DRIVERS = {"sqlite": SQLITE, "sqlite+pysqlite": SQLITE, "postgres": POSTGRESQL, "postgresql": POSTGRESQL}
DRIVERS[POSTGRESQL] = POSTGRESQL
EXPECTED = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"


class Database:
    """An engine whose errors are ours; thread-safe.

    Attributes:
        shown: Its URL without the password.
    """

    def __init__(self, url: str, settings: LedgerSettings) -> None:
        parsed = _parsed(url)
        self.shown = parsed.render_as_string(hide_password=True)
        self._password = parsed.password
        self._lock: FileLock | None = None
        if parsed.drivername == SQLITE:
            self._lock = _prepare_file(parsed, settings)
        self._engine = create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=settings.connections,
            max_overflow=0,
            pool_timeout=settings.timeout,
            connect_args=_connect_arguments(parsed, settings),
        )
        if parsed.drivername == SQLITE:
            event.listen(self._engine, "connect", _check_foreign_keys)
            event.listen(self._engine, "begin", _begin)
        else:
            event.listen(self._engine, "do_connect", partial(_connect, settings.timeout))

    def migrate(self) -> None:
        """Bring the database to this version's tables.

        Raises:
            InvalidInput: It is of a newer version.
            LedgerUnavailable: It cannot be reached, or holds other tables of the same names.
        """
        if self._lock is None:
            with self.writing() as connection:
                migrate(connection, self.shown)
            return
        try:
            with self._lock:
                self._use_write_ahead_log()
                with self.writing() as connection:
                    migrate(connection, self.shown)
        except (Timeout, OSError) as error:
            raise LedgerUnavailable(self._away(error)) from None

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads.

        Raises:
            LedgerUnavailable: The database does not answer as it should.
        """
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes; on SQLite there is one at a time.

        Raises:
            LedgerUnavailable: The database does not answer as it should; nothing was written, or it is unknown whether.
        """
        with self._translated(), self._engine.connect() as connection:
            connection.execution_options(withhold_writes=True)
            with connection.begin():
                yield connection

    def _use_write_ahead_log(self) -> None:
        # It stays so for every later connection, and must not be set in a transaction.
        with self._translated():
            raw = self._engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA journal_mode=WAL")
            except sqlite3.Error as error:
                raise LedgerUnavailable(self._away(error)) from None
            finally:
                raw.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise LedgerUnavailable(self._away(cause or error)) from None

    def _away(self, cause: BaseException) -> str:
        reason = " ".join(str(cause).split()) or type(cause).__name__
        if self._password:
            reason = reason.replace(self._password, "***")
        return f"the ledger {self.shown} cannot be reached ({reason}); see whether its database runs, and try again"


def _parsed(url: str) -> URL:
    """Read a URL.

    Raises:
        InvalidInput: It is none, or one of a database that is not supported; it is not repeated, as it may hold a
            password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        msg = f"the URL of the ledger cannot be read; {EXPECTED}"
        raise InvalidInput(msg) from None
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        msg = f"the URL of the ledger begins with {parsed.drivername!r}, which is not supported; {EXPECTED}"
        raise InvalidInput(msg)
    if driver == SQLITE and parsed.database in {None, "", ":memory:"}:
        msg = f"a ledger in memory would be forgotten with its process; {EXPECTED}"
        raise InvalidInput(msg)
    if driver == POSTGRESQL:
        _check_driver()
    return parsed.set(drivername=driver)


def _check_driver() -> None:
    try:
        import psycopg  # noqa: F401, PLC0415 - an extra
    except ImportError:
        msg = "a ledger in PostgreSQL needs psycopg 3; install it with `pip install 'withhold[postgres]'`"
        raise InvalidInput(msg) from None


def _prepare_file(url: URL, settings: LedgerSettings) -> FileLock:
    """Make the file, readable by its owner alone, and the lock for whoever migrates it.

    Raises:
        InvalidInput: The file cannot be made or written.
    """
    path = Path(str(url.database))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        msg = f"the ledger {path} cannot be opened: {error.strerror}; name a file in a folder that exists"
        raise InvalidInput(msg) from None
    return FileLock(f"{path}.lock", timeout=settings.timeout, mode=0o600)


def _connect_arguments(url: URL, settings: LedgerSettings) -> dict[str, Any]:
    if url.drivername == SQLITE:
        # Transactions are begun by `_begin`, not by the driver.
        return {"timeout": settings.timeout, "isolation_level": None}
    seconds = max(1, round(settings.timeout))
    # Otherwise a machine that has gone from the network keeps a thread waiting for minutes.
    patience = {
        "connect_timeout": seconds,
        "tcp_user_timeout": 1000 * seconds,
        "keepalives_idle": seconds,
        "keepalives_interval": max(1, seconds // 3),
        "keepalives_count": 3,
    }
    return {name: value for name, value in patience.items() if name not in url.query}


def _check_foreign_keys(connection: DBAPIConnection, _: object) -> None:
    connection.cursor().execute("PRAGMA foreign_keys=ON")


def _connect(
    seconds: float, dialect: Dialect, record: ConnectionPoolEntry, args: tuple[Any, ...], options: dict[str, Any]
) -> "PatientConnection":
    del dialect, record  # what SQLAlchemy tells every listener
    from withhold.online.ledger.postgresql import connect  # noqa: PLC0415 - an extra

    return connect(seconds, *args, **options)


def _begin(connection: Connection) -> None:
    # A transaction that begins as a reader and then writes fails at once if another has written meanwhile.
    writes = connection.get_execution_options().get("withhold_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
