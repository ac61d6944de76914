"""Where the files of a watch go: released images to the outbox, originals to done or rejected, or back.

begun -> staged -> ready -> published, by one rename -> original set aside, under a private name -> filed away ->
forgotten. Each step can be the last one before a kill; the next watch goes on from there.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from withhold.data.atomic import sync_folder, write_atomic
from withhold.online.protector import Released
from withhold.online.watch.arrivals import Arrival, Arrivals, printable
from withhold.online.watch.journal import Journal, Record
from withhold.online.watch.moving import fitting, free, holds, move, move_to_free, released_as
from withhold.online.watch.outcome import Protected, Rejected
from withhold.online.watch.places import Places


@dataclass(frozen=True, slots=True, eq=False)
class Filing:
    """Moves files, and tells of each that is finished.

    Attributes:
        tell: Called with each file that is finished.
    """

    places: Places
    arrivals: Arrivals
    journal: Journal
    tell: Callable[[Protected | Rejected], None]

    def go_on(self) -> frozenset[str]:
        """Finish what the watch before this one had made ready.

        Returns:
            Names of the files that it had begun and not made ready.
        """
        suspects = set()
        for record in self.journal.records():
            aside = self._is_aside(record)
            if record.target is not None and (aside or record.outbox == str(self.places.outbox)):
                self._publish(record)
                continue
            if aside:
                self._put_back(record)
            if self._holds(record.name, record):
                suspects.add(record.name)
            else:
                self.journal.forget(record)
        return frozenset(suspects)

    def begin(self, arrival: Arrival, sha256: str) -> Record:
        """Record that a file is worked on.

        Args:
            sha256: Of its bytes; empty if it was not read, and the record is of the name alone.
        """
        return self.journal.begin(Record(arrival.name, arrival.signature, sha256, str(self.places.outbox)))

    def release(self, record: Record, released: Released) -> None:
        """Publish a released image, and file the original away."""
        write_atomic(self.journal.staged(record), released.content)
        name = released_as(record.name, released.media_type)
        target = self._target(name, record, released.sha256_after)
        self._publish(self.journal.ready(record, target, asdict(protected(record.name, target, released))))

    def reject(self, arrival: Arrival, problem: str, record: Record | None) -> None:
        """Move a file away, with the reason beside it, unless it was changed meanwhile.

        Args:
            record: None if the file was not read.
        """
        reason = f"{printable(arrival.name)}: {problem}\n".encode(errors="backslashreplace")

        def explain(target: Path) -> None:
            write_atomic(target.with_name(f"{target.name}.reason.txt"), reason)

        record = record or self.begin(arrival, "")
        if not self.arrivals.unchanged(arrival) or not self._set_aside(record):
            self.arrivals.again(arrival)
        elif not self.arrivals.unchanged(Arrival(record.aside, arrival.signature)):
            self._put_back(record)
        else:
            place = self.places.rejected / fitting(arrival.name)
            target = move_to_free(self.arrivals.path(record.aside), place, explain)
            self.tell(Rejected(arrival.name, str(target), problem))
        self.journal.forget(record)

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
