"""Reservations: counted before crafting, recorded before the answer, given back if they come to nothing."""

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from withhold.errors import InvalidInput
from withhold.online.ledger.clients import locked
from withhold.online.ledger.errors import IdempotencyConflict, NotReserved, UnknownClient
from withhold.online.ledger.limits import Holder, check, counts, form
from withhold.online.ledger.tables import images, reservations
from withhold.online.ledger.values import Client, Entry, Reservation, Wanted

KEY = re.compile(r"[\x20-\x7e]{1,255}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def reserve(connection: Connection, asked: Reservation, now: datetime, expires: datetime) -> Reservation:
    """Count images towards a client's limits, unless the same request did.

    Args:
        asked: With an id that counts only if the request is new.

    Raises:
        As `Ledger.reserve`.
    """
    client = locked(connection, asked.client)
    if client.revoked is not None:
        msg = f"the token of the client {client.name!r} was revoked"
        raise UnknownClient(msg)
    known = _known(connection, asked)
    counted = _counted(connection, known, now) if known is not None else set()
    needed = {position: each for position, each in enumerate(asked.wanted) if position not in counted}
    holder = Holder(client.id, asked.protector, now)
    if needed:
        check(connection, holder, client, needed.values())
    reservation = Reservation(
        known or asked.id, client, asked.protector, asked.wanted, asked.idempotency_key, not needed
    )
    if known is None:
        _insert(connection, reservation)
    else:
        _hold(connection, known, now, expires)
    _insert_images(connection, reservation, needed, holder, expires)
    return reservation


def record(connection: Connection, reservation: Reservation, released: Sequence[Entry], now: datetime) -> None:
    """Write down released images.

    Raises:
        As `Ledger.record`.
    """
    client = locked(connection, reservation.client)
    holder = Holder(client.id, reservation.protector, now)
    _count_late(connection, reservation, {entry.wanted for entry in released}, holder, client)
    for entry in released:
        _record(connection, reservation, entry, holder)


def release(connection: Connection, reservation: Reservation) -> None:
    """Give back what was not recorded, once everyone who holds the reservation has done so."""
    locked(connection, reservation.client)
    own = reservations.c.id == reservation.id
    holders = connection.execute(select(reservations.c.holders).where(own)).scalar()
    if holders is None:
        return
    connection.execute(update(reservations).where(own).values(holders=max(0, holders - 1)))
    if holders > 1:
        return
    of_it = images.c.reservation_id == reservation.id
    connection.execute(delete(images).where(of_it, images.c.recorded.is_(None)))
    if connection.execute(select(images.c.id).where(of_it).limit(1)).first() is None:
        connection.execute(delete(reservations).where(own))


def asking(client: Client, wanted: Sequence[Wanted], idempotency_key: str | None, protector: str) -> Reservation:
    """Check what is asked for.

    Raises:
        InvalidInput: Nothing is; or a hash or the key is not one.
    """
    problem = None
    if not wanted:
        problem = "a reservation needs at least one image"
    elif idempotency_key is not None and not KEY.fullmatch(idempotency_key):
        problem = "an idempotency key has 1 to 255 printable ASCII characters; send another one"
    elif not all(SHA256.fullmatch(each.sha256_before) for each in wanted):
        problem = "images are known by their SHA-256, 64 hexadecimal digits in lower case"
    if problem is not None:
        raise InvalidInput(problem)
    return Reservation(uuid.uuid4().hex, client, protector, tuple(wanted), idempotency_key, replayed=False)


def _known(connection: Connection, asked: Reservation) -> str | None:
    """Find the reservation of the same request.

    Raises:
        IdempotencyConflict: The key belongs to another one.
    """
    if asked.idempotency_key is None:
        return None
    same_key = and_(
        reservations.c.client_id == asked.client.id, reservations.c.idempotency_key == asked.idempotency_key
    )
    row = connection.execute(select(reservations.c.id, reservations.c.content_sha256).where(same_key)).first()
    if row is None:
        return None
    if row.content_sha256 != _content(asked):
        msg = (
            "this idempotency key was used before, for other images, labels, speeds or another protector; "
            "choose a new key for a new request"
        )
        raise IdempotencyConflict(msg)
    return str(row.id)


def _counted(connection: Connection, reservation: str, now: datetime) -> set[int]:
    """Find the positions that count already."""
    chosen = select(images.c.position).where(images.c.reservation_id == reservation, counts(now))
    return set(connection.execute(chosen).scalars())


def _content(asked: Reservation) -> str:
    wanted = [[each.sha256_before, each.label, each.speed] for each in asked.wanted]
    return hashlib.sha256(json.dumps([asked.protector, wanted]).encode()).hexdigest()


def _insert(connection: Connection, reservation: Reservation) -> None:
    connection.execute(
        insert(reservations).values(
            id=reservation.id,
            client_id=reservation.client.id,
            protector=reservation.protector,
            idempotency_key=reservation.idempotency_key,
            content_sha256=_content(reservation),
            holders=1,
        )
    )


def _hold(connection: Connection, reservation: str, now: datetime, expires: datetime) -> None:
    """Hold a reservation once more; lines of images that count no more make room for new ones."""
    own = reservations.c.id == reservation
    connection.execute(update(reservations).where(own).values(holders=reservations.c.holders + 1))
    pending = and_(images.c.reservation_id == reservation, images.c.recorded.is_(None))
    connection.execute(delete(images).where(pending, images.c.expires <= now))
    connection.execute(update(images).where(pending, images.c.expires < expires).values(expires=expires))


def _insert_images(
    connection: Connection, reservation: Reservation, needed: Mapping[int, Wanted], holder: Holder, expires: datetime
) -> None:
    rows = [
        {
            "reservation_id": reservation.id,
            "position": position,
            "client_id": holder.client_id,
            "protector": holder.protector,
            "sha256_before": each.sha256_before,
            "wanted_label": each.label or "",
            "speed": each.speed,
            "reserved": holder.now,
            "expires": expires,
            "new_pair": False,
        }
        for position, each in needed.items()
    ]
    if rows:
        connection.execute(insert(images), rows)


def _count_late(
    connection: Connection, reservation: Reservation, released: Collection[Wanted], holder: Holder, client: Client
) -> None:
    """Count anew what is to be recorded and counts no more, as its reservation expired: others may have its place.

    Raises:
        QuotaExceeded, PairLimitReached: They have.
    """
    late = and_(images.c.reservation_id == reservation.id, images.c.recorded.is_(None), images.c.expires <= holder.now)
    positions = connection.execute(select(images.c.position).where(late)).scalars()
    needed = [reservation.wanted[position] for position in positions if reservation.wanted[position] in released]
    if needed:
        check(connection, holder, client, needed)
        for each in set(needed):
            connection.execute(update(images).where(late, form(each)).values(reserved=holder.now))


def _record(connection: Connection, reservation: Reservation, entry: Entry, holder: Holder) -> None:
    """Write down one image; every position that asked for the same has the same answer."""
    of_it = and_(images.c.reservation_id == reservation.id, form(entry.wanted))
    rows = connection.execute(select(images.c.id, images.c.recorded, images.c.sha256_after).where(of_it)).all()
    if not rows:
        msg = f"the image {entry.sha256_before} was not reserved, or was given back; it must not be released"
        raise NotReserved(msg)
    pending = [row.id for row in rows if row.recorded is None]
    if not pending and any(row.sha256_after == entry.sha256_after for row in rows):
        return
    if not pending:
        pending = [_another(connection, reservation, entry, holder)]
    new_pair = not _held(connection, entry, holder)
    stated = {
        "recorded": holder.now,
        "sha256_after": entry.sha256_after,
        "label": entry.label,
        "eps": entry.eps,
        "largest_change": entry.largest_change,
    }
    connection.execute(update(images).where(images.c.id.in_(pending)).values(stated))
    connection.execute(update(images).where(images.c.id == pending[0]).values(new_pair=new_pair))


def _another(connection: Connection, reservation: Reservation, entry: Entry, holder: Holder) -> int:
    """Make a line for an image that came out differently than before, as it may on another machine."""
    of_it: ColumnElement[bool] = images.c.reservation_id == reservation.id
    last = connection.execute(select(func.max(images.c.position)).where(of_it)).scalar_one()
    _insert_images(connection, reservation, {last + 1: entry.wanted}, holder, holder.now)
    inserted = select(images.c.id).where(of_it, images.c.position == last + 1)
    return int(connection.execute(inserted).scalar_one())


def _held(connection: Connection, entry: Entry, holder: Holder) -> bool:
    """Say whether the client got this pair before."""
    chosen = select(images.c.id).where(
        images.c.client_id == holder.client_id,
        images.c.protector == holder.protector,
        images.c.sha256_before == entry.sha256_before,
        images.c.sha256_after == entry.sha256_after,
        images.c.recorded.is_not(None),
    )
    return connection.execute(chosen.limit(1)).first() is not None
