"""From a file in the inbox to a released image: what is protected, what is rejected, and what waits.

read -> begun -> reserved -> crafted -> recorded -> released; see `filing` for the steps of a release.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from withhold.errors import InvalidInput, WithholdError
from withhold.online.image import Accepted
from withhold.online.ledger import UnknownClient
from withhold.online.protector import Protector, Released
from withhold.online.settings import SpeedName
from withhold.online.watch.accounts import Accounts, NotNow
from withhold.online.watch.arrivals import Arrival, Arrivals, printable
from withhold.online.watch.filing import Filing
from withhold.online.watch.journal import Journal, Record
from withhold.online.watch.labels import Labels, NoLabelYet
from withhold.online.watch.moving import fitting

if TYPE_CHECKING:
    from withhold.online.ledger import Reservation

MOST_STARTS = 5
"""Watches that may end while they work on a file before it is rejected, so that it holds up no others."""

OUT_OF_MEMORY = "there is not enough memory for it"


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """A file that can be protected.

    Attributes:
        reservation: In the ledger, if there is one.
    """

    record: Record
    accepted: Accepted
    reservation: "Reservation | None"


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """Protects files of the inbox, or rejects them.

    Attributes:
        say: Called with what concerns the user, besides the files that are finished.
        stopping: Asked before each group of files.
        suspects: Names of files that a watch before this one ended at; they come last, and alone.
    """

    protector: Protector
    speed: SpeedName
    labels: Labels
    arrivals: Arrivals
    journal: Journal
    filing: Filing
    say: Callable[[str], None]
    stopping: Callable[[], bool]
    suspects: frozenset[str] = frozenset()
    accounts: Accounts | None = None

    def handle(self, arrivals: Sequence[Arrival]) -> None:
        """Protect or reject files, as many at a time as the protector crafts side by side."""
        lanes = self.protector.document.lanes
        usual = [arrival for arrival in arrivals if arrival.name not in self.suspects]
        groups = [usual[first : first + lanes] for first in range(0, len(usual), lanes)]
        groups += [[arrival] for arrival in arrivals if arrival.name in self.suspects]
        try:
            for group in groups:
                if self.stopping():
                    return
                self._protect(group)
        except NotNow as error:
            self.say(f"Images wait in the inbox: {error}.")

    def _protect(self, group: Sequence[Arrival]) -> None:
        """Protect or reject files together.

        Raises:
            NotNow: The ledger takes no more; what it took before is released.
        """
        taken: list[Taken] = []
        refused = None
        for arrival in group:
            try:
                found = self._take(arrival)
            except NotNow as error:
                refused = error
                break
            if found is not None:
                taken.append(found)
        try:
            for each, released in self._craft(taken) if taken else []:
                self._release(each, released)
        except (NotNow, UnknownClient):
            for each in taken:  # none of them is to blame if the watch ends while they wait
                self.journal.forget(each.record)
            raise
        if refused is not None:
            raise refused

    def _take(self, arrival: Arrival) -> Taken | None:
        """Read and check a file; None if it waits, or was rejected."""
        record = None
        try:
            label = self.labels.of(arrival.name)
            content = self.arrivals.read(arrival)
            if content is None:
                return None
            record = self.filing.begin(arrival, hashlib.sha256(content).hexdigest())
            self._check(record)
            accepted = self.protector.accept(content, label)
        except NoLabelYet as error:
            self.say(f"{printable(arrival.name)} waits in the inbox: {error}.")
            return None
        except (InvalidInput, MemoryError) as error:
            self.filing.reject(arrival, problem_of(error), record)
            return None
        try:
            reservation = self._reserve(record, label)
        except UnknownClient:
            raise
        except WithholdError as error:
            self.filing.reject(arrival, problem_of(error), record)
            return None
        return Taken(record, accepted, reservation)

    def _check(self, record: Record) -> None:
        """Refuse what would stop every watch, or cannot be named in the outbox.

        Raises:
            InvalidInput: Says which.
        """
        if record.starts > MOST_STARTS:
            msg = f"{MOST_STARTS} times the process ended while it worked on this file; it may need too much memory"
            raise InvalidInput(msg)
        if fitting(record.name) != record.name:
            msg = "the file's name is too long; rename it"
            raise InvalidInput(msg)

    def _reserve(self, record: Record, label: str | None) -> "Reservation | None":
        """Reserve an image in the ledger, if there is one.

        Raises:
            NotNow: It takes no more at present.
            UnknownClient: The client was revoked; that is no fault of the file.
            WithholdError: It refuses this image.
        """
        if self.accounts is None:
            return None
        try:
            return self.accounts.reserve(record.token, record.sha256, label, self.speed)
        except (NotNow, UnknownClient):
            self.journal.forget(record)  # the file is not to blame if the watch ends while it waits
            raise

    def _craft(self, taken: Sequence[Taken]) -> list[tuple[Taken, Released]]:
        """Craft files together, and reject those at which it fails.

        Raises:
            Exception: One that is no fault of a file; the others were tried.
        """
        crafted = []
        results = self.protector.protect_each([each.accepted for each in taken], speed=self.speed)
        for each, result in zip(taken, results, strict=True):
            if isinstance(result, Released):
                crafted.append((each, result))
            elif isinstance(result, (WithholdError, MemoryError)):
                self.filing.reject(each.record.arrival, problem_of(result), each.record)
                self._give_back(each)
            else:
                raise result
        return crafted

    def _release(self, taken: Taken, released: Released) -> None:
        """Enter an image in the ledger, and publish it; what changed since it was read arrives anew."""
        record = taken.record
        if not self.arrivals.unchanged(record.arrival):
            self.arrivals.again(record.arrival)
            self.journal.forget(record)
            self._give_back(taken)
            return
        try:
            self._record(taken, released)
        except UnknownClient:
            raise
        except WithholdError as error:
            self._give_back(taken)
            self.filing.reject(record.arrival, problem_of(error), record)
            return
        self.filing.release(record, released)

    def _record(self, taken: Taken, released: Released) -> None:
        """Enter an image in the ledger, if there is one.

        Raises:
            NotNow: It cannot be reached.
            UnknownClient: The client was revoked; that is no fault of the file.
            WithholdError: It refuses this image.
        """
        if self.accounts is not None and taken.reservation is not None:
            self.accounts.record(taken.reservation, released)

    def _give_back(self, taken: Taken) -> None:
        if self.accounts is not None and taken.reservation is not None:
            self.accounts.give_back(taken.reservation)


def problem_of(error: BaseException) -> str:
    """Say what is wrong with a file, in one sentence."""
    return OUT_OF_MEMORY if isinstance(error, MemoryError) else str(error)
