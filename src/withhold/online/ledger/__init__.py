"""The ledger: what was released, to whom and when, and how many pairs of original and released image each client holds.

It knows images by their hashes only. `Ledger` and `Jobs` need the extra `serve`; everything else here does not.
"""

import importlib
from typing import TYPE_CHECKING, Any

from withhold.errors import InvalidInput
from withhold.online.ledger.errors import (
    IdempotencyConflict,
    LedgerUnavailable,
    NotReserved,
    PairLimitReached,
    QuotaExceeded,
    UnknownClient,
)
from withhold.online.ledger.settings import ClientSettings, LedgerSettings, default_url
from withhold.online.ledger.values import (
    FINISHED,
    Client,
    Entry,
    Job,
    JobState,
    Reservation,
    Row,
    Usage,
    Wanted,
)

if TYPE_CHECKING:
    from withhold.online.ledger.jobs import Jobs as Jobs
    from withhold.online.ledger.ledger import Ledger as Ledger

__all__ = [
    "FINISHED",
    "Client",
    "ClientSettings",
    "Entry",
    "IdempotencyConflict",
    "Job",
    "JobState",
    "Jobs",
    "Ledger",
    "LedgerSettings",
    "LedgerUnavailable",
    "NotReserved",
    "PairLimitReached",
    "QuotaExceeded",
    "Reservation",
    "Row",
    "UnknownClient",
    "Usage",
    "Wanted",
    "default_url",
]

_HOMES = {"Jobs": "withhold.online.ledger.jobs", "Ledger": "withhold.online.ledger.ledger"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes have any type
    """Import what needs SQLAlchemy when it is first used.

    Raises:
        InvalidInput: It is not installed.
    """
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in {"sqlalchemy", "alembic"}:
            raise
        msg = f"the ledger needs {missing}, which is not installed; install it with `pip install 'withhold[serve]'`"
        raise InvalidInput(msg) from None
