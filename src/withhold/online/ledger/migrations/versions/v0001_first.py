"""The first tables: clients, reservations, images and jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MANY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create them."""
    _clients_and_reservations()
    _images()
    _jobs()


def _clients_and_reservations() -> None:
    op.create_table(
        "clients",
        sa.Column("id", MANY, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("images_per_day", sa.Integer),
        sa.Column("pairs", sa.Integer),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("revoked", MOMENT),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("client_id", MANY, sa.ForeignKey("clients.id"), nullable=False),
        sa.Column("protector", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("holders", sa.Integer, nullable=False),
        sa.UniqueConstraint("client_id", "idempotency_key"),
    )


def _images() -> None:
    op.create_table(
        "images",
        sa.Column("id", MANY, primary_key=True),
        sa.Column("reservation_id", sa.String(32), sa.ForeignKey("reservations.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("client_id", MANY, sa.ForeignKey("clients.id"), nullable=False),
        sa.Column("protector", sa.Text, nullable=False),
        sa.Column("sha256_before", sa.String(64), nullable=False),
        sa.Column("wanted_label", sa.Text, nullable=False),
        sa.Column("speed", sa.Text, nullable=False),
        sa.Column("reserved", MOMENT, nullable=False),
        sa.Column("expires", MOMENT, nullable=False),
        sa.Column("recorded", MOMENT),
        sa.Column("sha256_after", sa.String(64)),
        sa.Column("label", sa.Text),
        sa.Column("eps", sa.Integer),
        sa.Column("largest_change", sa.Float),
        sa.Column("new_pair", sa.Boolean, nullable=False),
        sa.UniqueConstraint("reservation_id", "position"),
    )
    op.create_index("images_by_day", "images", ["client_id", "reserved"])
    op.create_index("images_by_pair", "images", ["client_id", "protector", "new_pair"])
    op.create_index("images_by_form", "images", ["client_id", "protector", "sha256_before", "speed", "wanted_label"])
    op.create_index("images_by_state", "images", ["client_id", "recorded", "expires"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("client_id", MANY, sa.ForeignKey("clients.id"), nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("problem", sa.Text),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("updated", MOMENT, nullable=False),
        sa.UniqueConstraint("client_id", "idempotency_key"),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "updated"])
