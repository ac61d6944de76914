"""The ledger as the service uses it: in threads, so that a slow database keeps no other request waiting."""

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from withhold.online.ledger import Client, Entry, Ledger, LedgerUnavailable, Reservation, Usage, Wanted
from withhold.online.protector import Released
from withhold.online.service.crafting import About
from withhold.online.service.threads import Threads
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

THREADS = 8

MOST = 32 * THREADS
"""Unfinished calls beyond which a request is refused: who asks, and leaves before the answer, leaves a call behind."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Accounting:
    """Calls the ledger; what it raises is raised here. Used from one event loop.

    With too many calls waiting for it the ledger counts as away. That concerns what begins a request; what ends one, or
    belongs to a job, always gets its turn.
    """

    def __init__(self, ledger: Ledger, about: About) -> None:
        self._ledger, self._about = ledger, about
        self._threads = Threads(THREADS, "withhold-ledger")

    async def call(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        """Call a function in a thread; the call goes on if whoever waits for it is cancelled."""
        return await self._threads.call(function, *args, **options)

    async def ping(self) -> None:
        """Return if the ledger answers."""
        await self._ask(self._ledger.ping)

    async def client_of(self, token: str) -> Client | None:
        """Find the client that has a token."""
        return await self._ask(self._ledger.client_of, token)

    async def usage(self, client: Client) -> Usage:
        """Say what a client has had of this protector."""
        return await self._ask(self._ledger.usage, client, self._about.fingerprint)

    async def reserve(
        self,
        client: Client,
        uploads: Sequence[Upload],
        speed: SpeedName,
        *,
        key: str | None,
        hours: float | None = None,
    ) -> Reservation:
        """Reserve images; see `Ledger.reserve`."""
        wanted = [Wanted(upload.sha256, upload.label, speed) for upload in uploads]
        protector = self._about.fingerprint
        return await self._ask(
            self._ledger.reserve, client, wanted, idempotency_key=key, protector=protector, hours=hours
        )

    async def record(self, reservation: Reservation, released: Sequence[Released]) -> None:
        """Record images that are about to be handed over; no pair gets out that is not in the ledger."""
        entries = [Entry.of(each, self._about.bound) for each in released]
        await self.call(self._ledger.record, reservation, entries)

    async def release(self, reservation: Reservation) -> None:
        """Give back what was reserved and not recorded."""
        await self.call(self._ledger.release, reservation)

    async def _ask(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        if self._threads.unfinished >= MOST:
            msg = f"the ledger is slow: {self._threads.unfinished} calls wait for it"
            raise LedgerUnavailable(msg)
        return await self.call(function, *args, **options)

    async def close(self) -> None:
        """Begin no further call, and wait for those that were begun."""
        await self._threads.close()
