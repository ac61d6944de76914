"""Entering what a watch releases into a ledger, for one of its clients."""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from withhold.errors import InvalidInput
from withhold.online.ledger import Entry, LedgerUnavailable, PairLimitReached, QuotaExceeded, Wanted
from withhold.online.settings import SpeedName

if TYPE_CHECKING:
    from withhold.online.ledger import Client, Ledger, Reservation
    from withhold.online.protector import Protector, Released


class NotNow(Exception):
    """The ledger cannot be reached, or does not allow any more images at present."""


@dataclass(frozen=True, slots=True, eq=False)
class Accounts:
    """The account of a client; `of` opens it.

    Attributes:
        protector: Its fingerprint.
        bound: Levels of 8 bit.
    """

    ledger: "Ledger"
    client: "Client"
    protector: str
    bound: int

    @staticmethod
    def of(ledger: "Ledger", name: str, protector: "Protector") -> "Accounts":
        """Find a client by its name.

        Raises:
            InvalidInput: There is none, or its token was revoked.
            LedgerUnavailable: The ledger cannot be reached.
        """
        known = {client.name: client for client in ledger.clients() if client.revoked is None}
        if name not in known:
            msg = f"the ledger has no client {name!r}; make it with `withhold online client add {name} --no-pair-limit`"
            raise InvalidInput(msg)
        return Accounts(ledger, known[name], protector.fingerprint, protector.bound)

    def reserve(self, token: str, sha256: str, label: str | None, speed: SpeedName) -> "Reservation":
        """Reserve an image; the same token, label, speed and protector are counted once, however often.

        Raises:
            NotNow: The quota or the number of pairs is used up, or the ledger is away.
            UnknownClient: The client was revoked.
            WithholdError: The ledger refuses this image.
        """
        try:
            wanted = [Wanted(sha256, label, speed)]
            key = self._key(token, label, speed)
            return self.ledger.reserve(self.client, wanted, idempotency_key=key, protector=self.protector)
        except (LedgerUnavailable, QuotaExceeded, PairLimitReached) as error:
            raise NotNow(str(error)) from error

    def record(self, reservation: "Reservation", released: "Released") -> None:
        """Enter a released image, before anybody can have it.

        Raises:
            NotNow: The ledger is away; or the reservation expired, and others took its place.
            UnknownClient: The client is not in the ledger any more.
            WithholdError: The ledger refuses this image.
        """
        try:
            self.ledger.record(reservation, [Entry.of(released, self.bound)])
        except (LedgerUnavailable, QuotaExceeded, PairLimitReached) as error:
            raise NotNow(str(error)) from error

    def give_back(self, reservation: "Reservation") -> None:
        """Give a reservation back that came to nothing.

        Raises:
            NotNow: The ledger is away.
        """
        try:
            self.ledger.release(reservation)
        except LedgerUnavailable as error:
            raise NotNow(str(error)) from error

    def _key(self, token: str, label: str | None, speed: SpeedName) -> str:
        """Name a request by all that it is bound to: a file may come again at another speed or under another label."""
        request = json.dumps([token, self.protector, speed, label]).encode()
        return f"watch-{hashlib.sha256(request).hexdigest()}"
