"""From a file in the inbox to a released image in the outbox, in steps of which each can be the last one before a kill.

read -> begun -> crafted -> staged -> ready -> published, by one rename -> original set aside, under a private
name -> filed away -> forgotten
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from withhold.data.atomic import sync_folder, write_atomic
from withhold.errors import InvalidInput, WithholdError
from withhold.online.image import Accepted
from withhold.online.ledger import UnknownClient
from withhold.online.protector import Protector, Released
from withhold.online.settings import SpeedName
from withhold.online.watch.accounts import Accounts, NotNow
from withhold.online.watch.arrivals import Arrival, Arrivals, printable
from withhold.online.watch.journal import Journal, Record
from withhold.online.watch.labels import Labels, NoLabelYet
from withhold.online.watch.moving import fitting, free, holds, move, move_to_free, released_as
from withhold.online.watch.outcome import Protected, Rejected
from withhold.online.watch.places import Places

if TYPE_CHECKING:
    from pathlib import Path

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
    """Takes files from the inbox to where they belong.

    Attributes:
        tell: Called with each file that is finished.
        say: Called with what concerns the user otherwise.
        stopping: Asked before each group of files.
        suspects: Names of files that a watch before this one ended at; they come last, and alone.
    """

    places: Places
    protector: Protector
    speed: SpeedName
    labels: Labels
    arrivals: Arrivals
    journal: Journal
    tell: Callable[[Protected | Rejected], None]
    say: Callable[[str], None]
    stopping: Callable[[], bool]
    accounts: Accounts | None = None
    suspects: set[str] = field(default_factory=set)

    def go_on(self) -> None:
        """Finish what the watch before this one had made ready."""
        for record in self.journal.records():
            aside = self._is_aside(record)
            if record.target is not None and (aside or record.outbox == str(self.places.outbox)):
                self._publish(record)
                continue
            if aside:
                self._put_back(record)
            if self._holds(record.name, record):
                self.suspects.add(record.name)
            else:
                self.journal.forget(record)

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
            digest = hashlib.sha256(content).hexdigest()
            record = self.journal.begin(Record(arrival.name, arrival.signature, digest, str(self.places.outbox)))
            self._check(record)
            accepted = self.protector.accept(content, label)
        except NoLabelYet as error:
            self.say(f"{printable(arrival.name)} waits in the inbox: {error}.")
            return None
        except (InvalidInput, MemoryError) as error:
            self._reject(arrival, problem_of(error), record)
            return None
        try:
            reservation = self._reserve(record, label)
        except UnknownClient:
            raise
        except WithholdError as error:
            self._reject(arrival, problem_of(error), record)
            return None
        return Taken(record, accepted, reservation)

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

    def _craft(self, taken: Sequence[Taken]) -> list[tuple[Taken, Released]]:
        """Craft files together; if that fails each alone, to reject those at which it does."""
        try:
            results = self.protector.protect_accepted([each.accepted for each in taken], speed=self.speed)
        except (WithholdError, MemoryError) as error:
            if len(taken) > 1:
                return [pair for each in taken for pair in self._craft([each])]
            self._reject(taken[0].record.arrival, problem_of(error), taken[0].record)
            self._give_back(taken[0])
            return []
        return list(zip(taken, results, strict=True))

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
            self._reject(record.arrival, problem_of(error), record)
            return
        write_atomic(self.journal.staged(record), released.content)
        name = released_as(record.name, released.media_type)
        target = self._target(name, record, released.sha256_after)
        self._publish(self.journal.ready(record, target, asdict(protected(record.name, target, released))))

    def _publish(self, record: Record) -> None:
        """Rename the staged image into the outbox unless that was done, and file the original away."""
        assert record.target is not None
        assert record.result is not None
        staged = self.journal.staged(record)
        if staged.exists():
            target = self._target(record.target, record, str(record.result["sha256_after"]))
            if target != record.target:  # something else took its place while no watch was running
                record = self.journal.ready(record, target, {**record.result, "released": target})
            move(staged, self.places.outbox / target)
        self._file_away(record)
        self.tell(Protected(**record.result))  # type: ignore[arg-type]
        self.journal.forget(record)

    def _target(self, name: str, record: Record, sha256: str) -> str:
        """Choose a name in the outbox under which nothing lies but what is staged."""
        size = self.journal.staged(record).stat().st_size
        chosen = free(self.places.outbox / name, lambda place: holds(place, sha256, size))
        return chosen.relative_to(self.places.outbox).as_posix()

    def _file_away(self, record: Record) -> None:
        """Move or delete the original, if it is still the one that was protected."""
        if not self._is_aside(record):
            still_there = self.arrivals.unchanged(record.arrival) or self._holds(record.name, record)
            if not still_there or not self._set_aside(record):
                return
        path = self.arrivals.path(record.aside)
        if not self._holds(record.aside, record):  # another one came in the moment before it was set aside
            self._put_back(record)
        elif self.places.done is None:
            path.unlink()
            sync_folder(path.parent)
        else:
            move_to_free(path, self.places.done / record.name)

    def _holds(self, name: str, record: Record) -> bool:
        """Say whether the file of this name in the inbox has the content that a record is about."""
        return holds(self.arrivals.path(name), record.sha256, record.arrival.signature.size)

    def _is_aside(self, record: Record) -> bool:
        return os.path.lexists(self.arrivals.path(record.aside))

    def _set_aside(self, record: Record) -> bool:
        """Give the file a private name, under which nobody exchanges it for another; False if it is gone."""
        try:
            self.arrivals.path(record.name).replace(self.arrivals.path(record.aside))
        except FileNotFoundError:
            return False
        return True

    def _put_back(self, record: Record) -> None:
        """Let what was set aside arrive anew, under another name if its own is taken."""
        move_to_free(self.arrivals.path(record.aside), self.arrivals.path(record.name))
        self.arrivals.again(record.arrival)

    def _reject(self, arrival: Arrival, problem: str, record: Record | None) -> None:
        """Move a file away, with the reason beside it, unless it was changed meanwhile."""
        reason = f"{printable(arrival.name)}: {problem}\n".encode(errors="backslashreplace")

        def explain(target: "Path") -> None:
            write_atomic(target.with_name(f"{target.name}.reason.txt"), reason)

        if record is None:  # not read; the record is of the name alone
            record = self.journal.begin(Record(arrival.name, arrival.signature, "", str(self.places.outbox)))
        if not self.arrivals.unchanged(arrival) or not self._set_aside(record):
            self.arrivals.again(arrival)
        elif not self.arrivals.unchanged(Arrival(record.aside, arrival.signature)):
            self._put_back(record)
        else:
            place = self.places.rejected / fitting(arrival.name)
            target = move_to_free(self.arrivals.path(record.aside), place, explain)
            self.tell(Rejected(arrival.name, str(target), problem))
        self.journal.forget(record)

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


def protected(name: str, target: str, released: Released) -> Protected:
    """Sum up what became of an image."""
    return Protected(
        name=name,
        released=target,
        label=released.label,
        label_was_given=released.label_was_given,
        speed=released.speed,
        largest_change=released.largest_change,
        psnr=released.psnr,
        sha256_before=released.sha256_before,
        sha256_after=released.sha256_after,
        protector=released.protector,
    )


def problem_of(error: BaseException) -> str:
    """Say what is wrong with a file, in one sentence."""
    return OUT_OF_MEMORY if isinstance(error, MemoryError) else str(error)
