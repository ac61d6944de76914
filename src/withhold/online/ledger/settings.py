"""Every number of the ledger and its default, and where a protector's ledger is."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

PROTECTOR = "protector.json"
"""The file that makes a folder a protector; `withhold.online.folder` says so too, but needs PyTorch."""


MOST = 1_000_000_000
"""Of anything that a client may have; more is no limit."""


class ClientSettings(BaseModel):
    """What a client may have. Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images_per_day: int | None = Field(
        None, ge=0, le=MOST, description="Images that the client may have on one day, in UTC; no quota if absent."
    )
    pairs: int | None = Field(
        500,
        ge=0,
        le=MOST,
        description="Pairs of original and released image that the client may hold of one protector; "
        "about 500 undo nearly every method.",
    )


class LedgerSettings(BaseModel):
    """How a ledger is used. Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reservation_hours: float = Field(
        1.0, gt=0, description="Hours after which a reservation counts no more unless its images were recorded."
    )
    connections: int = Field(10, ge=1, description="Connections to the database at a time.")
    timeout: float = Field(
        10.0, gt=0, description="Seconds to wait for a connection, a lock or a sign of life of the database."
    )


def default_url(protector: Path) -> str:
    """Return the URL of the ledger that lies in a protector's folder."""
    return f"sqlite:///{protector / 'ledger.db'}"
