import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text
from tests.online.ledger.conftest import add, entry, reserve, wanted
from tests.online.postgres import PASSWORD, Postgres, free_port

import withhold.online.ledger
from withhold.errors import InvalidInput
from withhold.online.ledger import (
    Entry,
    Ledger,
    LedgerSettings,
    LedgerUnavailable,
    default_url,
)
from withhold.online.ledger.database import Database
from withhold.online.ledger.migrating import TABLE
from withhold.online.ledger.tables import metadata


@pytest.fixture
def engine(url: str) -> Engine:
    return create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


UNUSABLE = {
    "words": ("my ledger", "cannot be read; expected sqlite:///FILE or postgresql://"),
    "a port of words": ("postgresql://u:secret@host:port/db", "cannot be read"),
    "another database": ("mysql://u:secret@host/db", "begins with 'mysql', which is not supported"),
    "another driver": ("postgresql+psycopg2://u:secret@host/db", r"begins with 'postgresql\+psycopg2'"),
    "memory": ("sqlite://", "would be forgotten with its process"),
    "memory, by name": ("sqlite:///:memory:", "would be forgotten with its process"),
    "a folder that is missing": ("sqlite:////nowhere/at/all/ledger.db", "cannot be opened: No such file"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_urls_that_cannot_be_used_are_refused_without_repeating_a_password(kind: str) -> None:
    url, says = UNUSABLE[kind]
    with pytest.raises(InvalidInput, match=says) as caught:
        Ledger.open(url)
    assert "secret" not in str(caught.value)


def test_a_ledger_is_made_where_it_was_not_for_its_owner_alone(tmp_path: Path) -> None:
    Ledger.open(default_url(tmp_path)).close()
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert "ledger.db" in {path.name for path in tmp_path.iterdir()}


def test_a_ledger_goes_on_where_it_was_left(url: str) -> None:
    ledger = Ledger.open(url)
    client = add(ledger, pairs=1)
    reservation = reserve(ledger, client, wanted(1), "key")
    ledger.record(reservation, [entry(*wanted(1))])
    ledger.close()
    again = Ledger.open(url)
    assert again.clients() == [client]
    assert again.usage(client).pairs == 1
    assert reserve(again, client, wanted(1), "key").replayed
    again.close()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_names_of_postgresql_mean_the_same(postgres: Postgres, scheme: str) -> None:
    ledger = Ledger.open(postgres.new_url().replace("postgresql:", f"{scheme}:"))
    ledger.ping()
    assert PASSWORD not in ledger.url
    assert ledger.url.startswith("postgresql+psycopg://withhold:***@127.0.0.1")
    ledger.close()


# Migrations


def test_migrations_make_the_tables_that_this_version_knows(url: str, engine: Engine) -> None:
    Ledger.open(url).close()
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(url: str, engine: Engine) -> None:
    Ledger.open(url).close()
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {TABLE} SET version_num = '9999'"))
    with pytest.raises(
        InvalidInput, match=r"has schema 9999, and this version .* up to 0001; use the version"
    ) as caught:
        Ledger.open(url)
    assert "p%40ss" not in str(caught.value)
    with engine.begin() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {TABLE}")).scalar_one() == "9999"
        connection.execute(text(f"UPDATE {TABLE} SET version_num = '0001'"))
    Ledger.open(url).close()
    engine.dispose()


def test_tables_of_something_else_are_left_as_they_are(url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE jobs (theirs INTEGER)"))
    with pytest.raises(LedgerUnavailable, match=r"jobs.* already exists"):
        Ledger.open(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT theirs FROM jobs")).all() == []
        with pytest.raises(Exception, match="clients"):  # and nothing was added
            connection.execute(text("SELECT * FROM clients"))
    engine.dispose()


# Databases that are away


CALLS: dict[str, Callable[[Ledger], object]] = {
    "ping": Ledger.ping,
    "add_client": lambda ledger: ledger.add_client("other"),
    "revoke_client": lambda ledger: ledger.revoke_client("app"),
    "clients": Ledger.clients,
    "client_of": lambda ledger: ledger.client_of("token"),
    "entries": lambda ledger: list(ledger.entries()),
    "unfinished": lambda ledger: ledger.jobs.unfinished(),
    "update": lambda ledger: ledger.jobs.update("a", done=1),
}


def test_a_database_that_was_killed_is_unavailable_and_works_again_once_it_is_back(postgres: Postgres) -> None:
    ledger = Ledger.open(postgres.new_url(), LedgerSettings(timeout=2))
    client = add(ledger)
    reservation = reserve(ledger, client, wanted(1), "key")
    released: list[Entry] = [entry(*wanted(1))]
    calls: dict[str, Callable[[Ledger], object]] = {
        **CALLS,
        "reserve": lambda ledger: reserve(ledger, client, wanted(2)),
        "record": lambda ledger: ledger.record(reservation, released),
        "release": lambda ledger: ledger.release(reservation),
        "usage": lambda ledger: ledger.usage(client),
        "create": lambda ledger: ledger.jobs.create("a", client, None, 1),
    }
    postgres.kill()
    try:
        for call in calls.values():
            with pytest.raises(LedgerUnavailable, match=r"withhold:\*\*\*@.* cannot be reached") as caught:
                call(ledger)
            assert PASSWORD not in str(caught.value)
            assert "p%40ss" not in str(caught.value)
        with pytest.raises(LedgerUnavailable):
            Ledger.open(postgres.url())
    finally:
        postgres.start()
    assert reserve(ledger, client, wanted(1), "key").replayed
    ledger.record(reservation, released)
    assert [row.sha256_before for row in ledger.entries()] == [wanted(1)[0].sha256_before]
    ledger.close()


@contextmanager
def killed(postgres: Postgres) -> Iterator[None]:
    postgres.kill()
    try:
        yield
    finally:
        postgres.start()


@pytest.mark.parametrize(("away", "says"), [(killed, "terminat"), (Postgres.silent, "has not answered for 1.5 s")])
def test_a_database_that_goes_away_within_a_transaction_has_nothing_of_it(
    postgres: Postgres, away: Callable[[Postgres], AbstractContextManager[None]], says: str
) -> None:
    ledger = Ledger.open(postgres.new_url(), LedgerSettings(timeout=0.5))
    client = add(ledger, images_per_day=2)
    reservation = reserve(ledger, client, wanted(1, 2))
    first, second = (entry(each) for each in wanted(1, 2))
    with ExitStack() as meanwhile:

        class AwayBetween(list[Entry]):
            def __iter__(self) -> Iterator[Entry]:
                yield first
                meanwhile.enter_context(away(postgres))
                yield second

        with pytest.raises(LedgerUnavailable, match=says):
            ledger.record(reservation, AwayBetween())
    assert list(ledger.entries()) == []
    assert ledger.usage(client).images_today == 2
    ledger.record(reservation, [first, second])
    assert len(list(ledger.entries())) == 2
    ledger.close()


def test_a_wrong_password_is_not_repeated(postgres: Postgres) -> None:
    url = postgres.new_url().replace("%40ss", "%40sst")
    with pytest.raises(LedgerUnavailable, match="password authentication failed") as caught:
        Ledger.open(url)
    assert "p@sst" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(LedgerUnavailable, match="Connection refused"):
        Ledger.open(f"postgresql://u:secret@127.0.0.1:{free_port()}/db")


def test_a_client_that_is_locked_is_unavailable_and_works_again_once_it_is_free(url: str, engine: Engine) -> None:
    """As SQLite locks the whole file, so does PostgreSQL lock the row of a client."""
    ledger = Ledger.open(url, LedgerSettings(timeout=0.5))
    client = add(ledger)
    with engine.begin() as other:
        other.execute(text("UPDATE clients SET pairs = 5"))
        with pytest.raises(LedgerUnavailable, match=r"database is locked|statement timeout"):
            reserve(ledger, client, wanted(1))
        assert ledger.usage(client).images_today == 0  # readers do not wait for writers
    assert reserve(ledger, client, wanted(1)).client.pairs == 5
    ledger.close()
    engine.dispose()


def test_a_statement_that_does_not_end_is_ended(postgres: Postgres) -> None:
    database = Database(postgres.new_url(), LedgerSettings(timeout=0.5))
    with (
        pytest.raises(LedgerUnavailable, match="canceling statement due to statement timeout"),
        database.reading() as connection,
    ):
        connection.execute(text("SELECT pg_sleep(3600)"))
    with database.reading() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    database.close()


def test_a_server_that_says_nothing_is_unavailable_and_works_again_once_it_answers(postgres: Postgres) -> None:
    ledger = Ledger.open(postgres.new_url(), LedgerSettings(timeout=0.5))
    client = add(ledger)
    with postgres.silent():
        for _ in range(2):  # a connection that is there; a new one
            with pytest.raises(LedgerUnavailable, match=r"withhold:\*\*\*@.* cannot be reached"):
                ledger.ping()
    assert ledger.clients() == [client]
    ledger.close()


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("Dear diary, today I released a picture. " * 50)
    before = (tmp_path / "ledger.db").read_bytes()
    with pytest.raises(LedgerUnavailable, match="not a database"):
        Ledger.open(default_url(tmp_path))
    assert (tmp_path / "ledger.db").read_bytes() == before


# Without what it needs


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from withhold.errors import InvalidInput
try:
    from withhold.online.ledger import Ledger
except InvalidInput as error:
    print(error)
"""


@pytest.mark.parametrize("module", ["sqlalchemy", "alembic"])
def test_a_missing_extra_is_named(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, module], capture_output=True, text=True, check=True)
    assert f"needs {module}" in done.stdout
    assert "withhold[serve]" in done.stdout


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidInput, match=r"needs psycopg 3.*withhold\[postgres\]"):
        Ledger.open("postgresql://u:p@127.0.0.1/db")


def test_what_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Chronicle'"):
        _ = withhold.online.ledger.Chronicle
