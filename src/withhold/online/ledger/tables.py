"""The tables of a ledger as this version knows them; `migrations` makes them."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class Moment(TypeDecorator[datetime]):
    """A moment in UTC; SQLite stores no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Translate for the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Translate from the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

MANY = BigInteger().with_variant(Integer, "sqlite")
"""Numbers of rows; SQLite's own INTEGER has 64 bits."""

clients = Table(
    "clients",
    metadata,
    Column("id", MANY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("images_per_day", Integer),
    Column("pairs", Integer),
    Column("created", Moment, nullable=False),
    Column("revoked", Moment),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("protector", Text, nullable=False),
    Column("idempotency_key", Text),
    # Of what was wanted, so that one key is not used for two things.
    Column("content_sha256", String(64), nullable=False),
    # Callers that got it and may still give it back; it goes when the last one does.
    Column("holders", Integer, nullable=False),
    UniqueConstraint("client_id", "idempotency_key"),
)

images = Table(
    "images",
    metadata,
    Column("id", MANY, primary_key=True),
    Column("reservation_id", ForeignKey("reservations.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("protector", Text, nullable=False),
    Column("sha256_before", String(64), nullable=False),
    # Empty if the surrogate is to decide: in SQL, NULL equals nothing.
    Column("wanted_label", Text, nullable=False),
    Column("speed", Text, nullable=False),
    Column("reserved", Moment, nullable=False),
    # Until then a reserved image counts; a recorded one always does.
    Column("expires", Moment, nullable=False),
    Column("recorded", Moment),
    Column("sha256_after", String(64)),
    Column("label", Text),
    Column("eps", Integer),
    Column("largest_change", Float),
    # The first time that this client got this pair by this protector.
    Column("new_pair", Boolean, nullable=False),
    UniqueConstraint("reservation_id", "position"),
    Index("images_by_day", "client_id", "reserved"),
    Index("images_by_pair", "client_id", "protector", "new_pair"),
    Index("images_by_form", "client_id", "protector", "sha256_before", "speed", "wanted_label"),
    Index("images_by_state", "client_id", "recorded", "expires"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("idempotency_key", Text),
    Column("images", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("problem", Text),
    Column("created", Moment, nullable=False),
    Column("updated", Moment, nullable=False),
    UniqueConstraint("client_id", "idempotency_key"),
    Index("jobs_by_state", "state", "updated"),
)
