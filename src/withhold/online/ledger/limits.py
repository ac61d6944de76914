"""What counts towards a client's limits, and whether more fits in.

An image counts while it is reserved, and for good once it is recorded. A pair is an original beside one released image.
Before an image is crafted its released bytes are unknown; what was asked for (`Wanted`) stands in their place, as the
same protector answers it with the same bytes.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from withhold.online.ledger.errors import PairLimitReached, QuotaExceeded
from withhold.online.ledger.tables import images
from withhold.online.ledger.values import Client, Wanted


@dataclass(frozen=True, slots=True)
class Holder:
    """A client that holds pairs of a protector, at a moment in UTC."""

    client_id: int
    protector: str
    now: datetime

    def images_today(self, connection: Connection) -> int:
        """Count the images that were reserved since midnight and still count."""
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        chosen = and_(images.c.client_id == self.client_id, images.c.reserved >= midnight, counts(self.now))
        return _count(connection, chosen)

    def pairs(self, connection: Connection) -> int:
        """Count the pairs that were recorded, and what is reserved and may become pairs."""
        recorded = _count(connection, and_(self._own(), images.c.new_pair))
        same = images.alias()
        known = exists().where(
            same.c.client_id == images.c.client_id,
            same.c.protector == images.c.protector,
            same.c.sha256_before == images.c.sha256_before,
            same.c.speed == images.c.speed,
            same.c.wanted_label == images.c.wanted_label,
            same.c.recorded.is_not(None),
        )
        forms = (
            select(images.c.sha256_before, images.c.speed, images.c.wanted_label)
            .where(self._own(), images.c.recorded.is_(None), images.c.expires > self.now, ~known)
            .distinct()
        )
        return recorded + connection.execute(select(func.count()).select_from(forms.subquery())).scalar_one()

    def unknown(self, connection: Connection, wanted: Iterable[Wanted]) -> int:
        """Count what is neither recorded nor reserved, the same only once."""
        return sum(
            connection.execute(select(images.c.id).where(self._own(), form(each), counts(self.now)).limit(1)).first()
            is None
            for each in set(wanted)
        )

    def _own(self) -> ColumnElement[bool]:
        return and_(images.c.client_id == self.client_id, images.c.protector == self.protector)


def check(connection: Connection, holder: Holder, client: Client, needed: Collection[Wanted]) -> None:
    """Check that images fit into a client's limits.

    Raises:
        QuotaExceeded: They are too many for the day.
        PairLimitReached: They would make too many pairs.
    """
    if client.images_per_day is not None:
        used = holder.images_today(connection)
        if used + len(needed) > client.images_per_day:
            raise QuotaExceeded(len(needed), used, client.images_per_day, until_midnight(holder.now))
    if client.pairs is not None:
        more = holder.unknown(connection, needed)
        held = holder.pairs(connection) if more else 0
        if more and held + more > client.pairs:
            raise PairLimitReached(more, held, client.pairs)


def protectors_of(connection: Connection, client: Client) -> list[str]:
    """List the protectors that ever had an image of a client."""
    chosen = select(images.c.protector).where(images.c.client_id == client.id).distinct()
    return list(connection.execute(chosen).scalars())


def counts(now: datetime) -> ColumnElement[bool]:
    """Say that an image counts."""
    return or_(images.c.recorded.is_not(None), images.c.expires > now)


def form(wanted: Wanted) -> ColumnElement[bool]:
    """Say that an image is what was asked for."""
    return and_(
        images.c.sha256_before == wanted.sha256_before,
        images.c.speed == wanted.speed,
        images.c.wanted_label == (wanted.label or ""),
    )


def until_midnight(now: datetime) -> int:
    """Return the whole seconds until the day ends, at least 1.

    >>> from datetime import UTC
    >>> until_midnight(datetime(2026, 1, 1, 23, 59, 58, 500_000, tzinfo=UTC))
    2
    """
    begun = timedelta(hours=now.hour, minutes=now.minute, seconds=now.second, microseconds=now.microsecond)
    return max(1, math.ceil((timedelta(days=1) - begun).total_seconds()))


def _count(connection: Connection, chosen: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).select_from(images).where(chosen)).scalar_one()
