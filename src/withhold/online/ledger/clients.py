"""Clients and their tokens, of which only the SHA-256 is kept: they are random, so that nothing slower is needed."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from withhold.errors import InvalidInput
from withhold.online.ledger.errors import UnknownClient
from withhold.online.ledger.settings import ClientSettings
from withhold.online.ledger.tables import clients
from withhold.online.ledger.values import Client

COLUMNS = (
    clients.c.id,
    clients.c.name,
    clients.c.images_per_day,
    clients.c.pairs,
    clients.c.created,
    clients.c.revoked,
)
"""What makes a `Client`, in its order."""

PREFIX = "withhold_"
"""Of every token, so that programs that look for secrets in files know one."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def add(connection: Connection, name: str, settings: ClientSettings, now: datetime) -> str:
    """Make a client, or give a revoked one a new token and new limits; what it held still counts.

    Returns:
        The token.

    Raises:
        InvalidInput: The name is taken, or not one.
    """
    if not NAME.fullmatch(name):
        msg = (
            f"a client's name is made of 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a "
            f"letter or digit; got {name!r}"
        )
        raise InvalidInput(msg)
    token = PREFIX + secrets.token_urlsafe(32)
    values = {**settings.model_dump(), "token_sha256": _digest(token), "created": now, "revoked": None}
    known = connection.execute(select(clients.c.revoked).where(clients.c.name == name).with_for_update()).first()
    if known is None:
        connection.execute(insert(clients).values(name=name, **values))
    elif known.revoked is not None:
        connection.execute(update(clients).where(clients.c.name == name).values(values))
    else:
        raise InvalidInput(taken(name))
    return token


def taken(name: str) -> str:
    """Say that there is such a client."""
    return f"there is a client {name!r} already; choose another name, or revoke it first to give it a new token"


def revoke(connection: Connection, name: str, now: datetime) -> None:
    """Let a client's token be worth nothing.

    Raises:
        UnknownClient: There is none of this name with a token.
    """
    chosen = update(clients).where(clients.c.name == name, clients.c.revoked.is_(None)).values(revoked=now)
    if connection.execute(chosen).rowcount == 0:
        msg = f"there is no client {name!r} with a token; `withhold online client list` shows which there are"
        raise UnknownClient(msg)


def everyone(connection: Connection) -> list[Client]:
    """List the clients by name."""
    return [client(row) for row in connection.execute(select(*COLUMNS).order_by(clients.c.name))]


def of_token(connection: Connection, token: str) -> Client | None:
    """Find whose token this is."""
    chosen = select(*COLUMNS).where(clients.c.token_sha256 == _digest(token), clients.c.revoked.is_(None))
    row = connection.execute(chosen).first()
    return None if row is None else client(row)


def locked(connection: Connection, known: Client) -> Client:
    """Read a client as it is now, and keep others from counting for it until the transaction ends.

    Raises:
        UnknownClient: It is of another ledger.
    """
    # On SQLite the whole database is locked by `Database.writing`.
    chosen = select(*COLUMNS).where(clients.c.id == known.id).with_for_update(key_share=True)
    row = connection.execute(chosen).first()
    if row is None:
        msg = f"the client {known.name!r} is not in this ledger"
        raise UnknownClient(msg)
    return client(row)


def client(row: Sequence[Any]) -> Client:
    """Read a row of `COLUMNS`, which may be followed by others."""
    return Client(*row[: len(COLUMNS)])


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
