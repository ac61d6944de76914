import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.online.postgres import Postgres, postgres

from withhold.online.ledger import Client, Entry, Ledger, LedgerSettings, Reservation, Wanted
from withhold.online.settings import SpeedName

__all__ = ["postgres"]  # a fixture

PROTECTOR = "5a" * 32


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


Open = Callable[..., Ledger]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_url()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_ledger(url: str, clock: Clock) -> Iterator[Open]:
    """Opens the database again and again, as several processes would, and closes all in the end."""
    with ExitStack() as stack:

        def opened(settings: LedgerSettings | None = None) -> Ledger:
            ledger = Ledger.open(url, settings or LedgerSettings(), clock=clock)
            stack.callback(ledger.close)
            return ledger

        yield opened


@pytest.fixture
def ledger(open_ledger: Open) -> Ledger:
    return open_ledger()


def add(ledger: Ledger, name: str = "app", *, images_per_day: int | None = None, pairs: int | None = None) -> Client:
    found = ledger.client_of(ledger.add_client(name, images_per_day=images_per_day, pairs=pairs))
    assert found is not None
    return found


def wanted(*names: object, label: str | None = "cat", speed: SpeedName = "full") -> list[Wanted]:
    return [Wanted(hashlib.sha256(str(name).encode()).hexdigest(), label, speed) for name in names]


def entry(each: Wanted, *, after: str = "") -> Entry:
    """What a protector would answer: the same bytes for the same image, label and speed."""
    label = each.label or "owl"
    digest = hashlib.sha256(f"{each.sha256_before}{label}{each.speed}{after}".encode()).hexdigest()
    return Entry(each.sha256_before, digest, label, each.label is not None, each.speed, 8, 7.0)


def reserve(ledger: Ledger, client: Client, images: list[Wanted], key: str | None = None) -> Reservation:
    return ledger.reserve(client, images, idempotency_key=key, protector=PROTECTOR)


def released(ledger: Ledger, client: Client, images: list[Wanted], key: str | None = None) -> Reservation:
    reservation = reserve(ledger, client, images, key)
    ledger.record(reservation, [entry(each) for each in images])
    return reservation
