"""Ledger: what was released to whom, and what a client may still have."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from withhold.errors import InvalidInput
from withhold.online.ledger import clients, reserving
from withhold.online.ledger.database import Database
from withhold.online.ledger.jobs import Jobs
from withhold.online.ledger.limits import Holder, protectors_of
from withhold.online.ledger.settings import ClientSettings, LedgerSettings
from withhold.online.ledger.tables import clients as clients_table
from withhold.online.ledger.tables import images
from withhold.online.ledger.values import Client, Entry, Reservation, Row, Usage, Wanted

CLIENT, DEFAULTS = ClientSettings(), LedgerSettings()
PAGE = 1000
"""Lines that are read at a time."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)


class Ledger:
    """What was released to whom; see `open`. Safe to use from several threads and processes.

    Every method that needs the database raises `LedgerUnavailable` while it is away, and works again once it is back.
    The order of use is reserve, craft, record, answer: then no pair is out that is not in the ledger.

    Attributes:
        url: Of its database, without the password.
        jobs: In the same database.
    """

    def __init__(self, database: Database, settings: LedgerSettings = DEFAULTS, clock: Clock = utc_now) -> None:
        self.url = database.shown
        self.jobs = Jobs(database, clock)
        self._database = database
        self._settings = settings
        self._clock = clock

    @classmethod
    def open(cls, url: str, settings: LedgerSettings = DEFAULTS, *, clock: Clock = utc_now) -> "Ledger":
        """Open a ledger; its tables are made or brought to this version if need be.

        Args:
            url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE`.
            clock: Tells the time in UTC.

        Raises:
            InvalidInput: The URL cannot be used, or the database was written by a newer version.
            LedgerUnavailable: The database cannot be reached.
        """
        database = Database(url, settings)
        try:
            database.migrate()
        except BaseException:
            database.close()
            raise
        return cls(database, settings, clock)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def ping(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            LedgerUnavailable: There is none.
        """
        with self._database.reading() as connection:
            connection.execute(select(1))

    def add_client(
        self,
        name: str,
        *,
        images_per_day: int | None = CLIENT.images_per_day,
        pairs: int | None = CLIENT.pairs,
    ) -> str:
        """Make a client, or give a revoked one a new token and new limits; what it held still counts.

        Args:
            images_per_day: None is no quota.
            pairs: Of original and released image that it may hold of one protector. None is no limit: for a back end
                that is trusted with the originals anyway.

        Returns:
            Its token, which is kept nowhere else.

        Raises:
            InvalidInput: The name is taken or not one, or a limit is none.
        """
        try:
            settings = ClientSettings(images_per_day=images_per_day, pairs=pairs)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidInput(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None
        with self._database.writing() as connection:
            try:
                return clients.add(connection, name, settings, self._clock())
            except IntegrityError:  # added by another process at the same moment
                raise InvalidInput(clients.taken(name)) from None

    def revoke_client(self, name: str) -> None:
        """Let a client's token be worth nothing from now on.

        Raises:
            UnknownClient: There is none of this name with a token.
        """
        with self._database.writing() as connection:
            clients.revoke(connection, name, self._clock())

    def clients(self) -> list[Client]:
        """List the clients by name, revoked ones among them."""
        with self._database.reading() as connection:
            return clients.everyone(connection)

    def client_of(self, token: str) -> Client | None:
        """Find whose token this is; None if it is nobody's, or was revoked."""
        with self._database.reading() as connection:
            return clients.of_token(connection, token)

    def reserve(
        self,
        client: Client,
        wanted: Sequence[Wanted],
        *,
        idempotency_key: str | None,
        protector: str,
        hours: float | None = None,
    ) -> Reservation:
        """Count images towards a client's limits before they are crafted: all of them, or none.

        The same key with the same images counts once, whatever became of the first time.

        Args:
            idempotency_key: 1 to 255 printable ASCII characters, for this client; it is bound to these images for good.
            protector: Its fingerprint.
            hours: That the reservation counts unless it is recorded; what the settings say if absent.

        Raises:
            InvalidInput: Nothing is wanted, or the key or a hash is not one.
            UnknownClient: The client's token was revoked.
            IdempotencyConflict: The key was used for something else.
            QuotaExceeded: They are too many for the day.
            PairLimitReached: They would make too many pairs.
        """
        asked = reserving.asking(client, wanted, idempotency_key, protector)
        now = self._clock()
        expires = now + timedelta(hours=self._settings.reservation_hours if hours is None else hours)
        with self._database.writing() as connection:
            return reserving.reserve(connection, asked, now, expires)

    def record(self, reservation: Reservation, released: Sequence[Entry]) -> None:
        """Write down released images; they count for good. A part of a reservation may be recorded before another.

        The same may be recorded again, which changes nothing. What comes later than its reservation lasted is counted
        now, if it still fits. An error means that none was recorded, and none must be released.

        Raises:
            NotReserved: One is not of the reservation, or was given back.
            QuotaExceeded: The reservation expired, and the day's images have been used up since.
            PairLimitReached: The reservation expired, and the pairs have been used up since.
        """
        with self._database.writing() as connection:
            reserving.record(connection, reservation, released, self._clock())

    def release(self, reservation: Reservation) -> None:
        """Give back what was not recorded of a reservation.

        If another request with the same idempotency key holds it as well, it counts until that one gives it back.
        """
        with self._database.writing() as connection:
            reserving.release(connection, reservation)

    def usage(self, client: Client, protector: str | None = None) -> Usage:
        """Say what a client has had.

        Args:
            protector: Whose pairs are counted; that of which the client holds most if absent.
        """
        now = self._clock()
        with self._database.reading() as connection:
            protectors = [protector] if protector is not None else protectors_of(connection, client)
            return Usage(
                images_today=Holder(client.id, "", now).images_today(connection),
                images_per_day=client.images_per_day,
                pairs=max((Holder(client.id, each, now).pairs(connection) for each in protectors), default=0),
                pairs_limit=client.pairs,
            )

    def entries(self, client: str | None = None, since: datetime | None = None) -> Iterator[Row]:
        """Read the released images in the order in which they were reserved, a page at a time.

        Args:
            client: Name of one; all if absent.
            since: When they were recorded at the earliest, with its time zone.
        """
        last = 0
        while page := self._page(client, since, last):
            yield from (row for _, row in page)
            last = page[-1][0]

    def _page(self, client: str | None, since: datetime | None, last: int) -> list[tuple[int, Row]]:
        chosen = (
            select(
                images.c.id,
                images.c.recorded,
                clients_table.c.name,
                images.c.protector,
                images.c.sha256_before,
                images.c.sha256_after,
                images.c.label,
                images.c.wanted_label != "",
                images.c.speed,
                images.c.eps,
                images.c.largest_change,
                images.c.reservation_id,
            )
            .join_from(images, clients_table, images.c.client_id == clients_table.c.id)
            .where(images.c.recorded.is_not(None), images.c.id > last)
            .order_by(images.c.id)
            .limit(PAGE)
        )
        if client is not None:
            chosen = chosen.where(clients_table.c.name == client)
        if since is not None:
            chosen = chosen.where(images.c.recorded >= since)
        with self._database.reading() as connection:
            return [(row[0], Row(*row[1:])) for row in connection.execute(chosen)]
