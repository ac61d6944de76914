"""From a file in the inbox to a released image in the outbox, in steps of which each can be the last one before a kill.

read -> begun -> crafted -> staged -> ready -> published, by one rename -> original filed away -> forgotten
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from withhold.data.atomic import sync_folder, write_atomic
from withhold.errors import InvalidInput, WithholdError
from withhold.online.image import Accepted
from withhold.online.protector import Protector, Released
from withhold.online.settings import SpeedName
from withhold.online.watch.accounts import Accounts, NotNow
from withhold.online.watch.arrivals import Arrival, Arrivals, printable
from withhold.online.watch.journal import Journal, Record
from withhold.online.watch.labels import Labels, NoLabelYet
from withhold.online.watch.moving import equal_files, fitting, free, holds, move, released_as
from withhold.online.watch.outcome import Protected, Rejected
from withhold.online.watch.places import Places

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
            if record.target is not None and record.outbox == str(self.places.outbox):
                self._publish(record)
            elif holds(self.arrivals.path(record.name), record.sha256):
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
                taken = [taken for arrival in group if (taken := self._take(arrival)) is not None]
                for each, released in self._craft(taken) if taken else []:
                    self._release(each, released)
        except NotNow as error:
            self.say(f"Images wait in the inbox: {error}.")

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
        reservation = None
        if self.accounts is not None:
            reservation = self.accounts.reserve(record.token, digest, label, self.speed)
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
        if self.accounts is not None and taken.reservation is not None:
            self.accounts.record(taken.reservation, released)
        write_atomic(self.journal.staged(record), released.content)
        name = released_as(record.name, released.media_type)
        target = self._target(name, released.sha256_after)
        self._publish(self.journal.ready(record, target, asdict(protected(record.name, target, released))))

    def _publish(self, record: Record) -> None:
        """Rename the staged image into the outbox unless that was done, and file the original away."""
        assert record.target is not None
        assert record.result is not None
        staged = self.journal.staged(record)
        if staged.exists():
            target = self._target(record.target, str(record.result["sha256_after"]))
            if target != record.target:  # something else took its place while no watch was running
                record = self.journal.ready(record, target, {**record.result, "released": target})
            move(staged, self.places.outbox / target)
        self._file_away(record)
        self.tell(Protected(**record.result))  # type: ignore[arg-type]
        self.journal.forget(record)

    def _target(self, name: str, sha256: str) -> str:
        """Choose a name in the outbox under which nothing else lies."""
        chosen = free(self.places.outbox / name, lambda place: holds(place, sha256))
        return chosen.relative_to(self.places.outbox).as_posix()

    def _file_away(self, record: Record) -> None:
        """Move or delete the original, if it is still the one that was protected."""
        path = self.arrivals.path(record.name)
        if not self.arrivals.unchanged(record.arrival) and not holds(path, record.sha256):
            return
        if self.places.done is None:
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
        else:
            move(path, free(self.places.done / record.name, lambda place: equal_files(place, path)))

    def _reject(self, arrival: Arrival, problem: str, record: Record | None) -> None:
        """Move a file away, with the reason beside it, unless it was changed meanwhile."""
        if self.arrivals.unchanged(arrival):
            path = self.arrivals.path(arrival.name)
            place = self.places.rejected / fitting(arrival.name)
            target = free(place, lambda other: equal_files(other, path))
            reason = f"{printable(arrival.name)}: {problem}\n"
            write_atomic(target.with_name(f"{target.name}.reason.txt"), reason.encode(errors="backslashreplace"))
            move(path, target)
            self.tell(Rejected(arrival.name, str(target), problem))
        else:
            self.arrivals.again(arrival)
        if record is not None:
            self.journal.forget(record)

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
