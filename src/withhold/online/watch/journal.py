"""What a watch is working on, so that one that is started after a kill knows what the killed one had done.

Each file has a record from before it is crafted until its original is filed away. A record is `begun` first: the image
may be crafted again. It is `ready` once the released image is whole in the staging folder. From then on the staged file
itself tells the rest: it leaves the staging folder by the one rename that publishes it. So whether a consumer has
already taken the image out of the outbox does not matter: it is never published twice.

An original that is moved out of the inbox has a private name of its record first, so that a kill there is seen too.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from withhold.data.atomic import partial_of, write_atomic
from withhold.online.watch.arrivals import Arrival, Signature


@dataclass(frozen=True, slots=True)
class Record:
    """How far a file is.

    Attributes:
        name: Its path in the inbox.
        signature: As `Signature`.
        sha256: Of its bytes.
        outbox: The folder that it was staged for.
        starts: How many watches began it.
        target: The path in the outbox that it is published under; None as long as it is not ready.
        result: What was told of it, once it is ready.
    """

    name: str
    signature: tuple[int, int, int]
    sha256: str
    outbox: str
    starts: int = 1
    target: str | None = None
    result: Mapping[str, Any] | None = None

    @property
    def token(self) -> str:
        """Names the record and the staged file; depends on the file's name and bytes alone."""
        return hashlib.sha256(os.fsencode(f"{self.name}\0{self.sha256}")).hexdigest()[:24]

    @property
    def aside(self) -> str:
        """Path in the inbox from which the original is filed away; nothing else has it, and no look takes it."""
        folder, slash, _ = self.name.rpartition("/")
        return f"{folder}{slash}.{self.token}.withhold"

    @property
    def arrival(self) -> Arrival:
        """The file as it was when it was read."""
        return Arrival(self.name, Signature(*self.signature))


class Journal:
    """The records of a watch, each a file of its own.

    Args:
        folder: For the records.
        staging: Where released images wait to be published.
    """

    def __init__(self, folder: Path, staging: Path) -> None:
        self._folder = folder
        self._staging = staging
        self._begun: set[str] = set()

    def begin(self, record: Record) -> Record:
        """Store that a file is begun, and count the watches that began it."""
        known = self._read(self._place(record))
        before = known.starts if known else 0
        begun = replace(record, starts=max(1, before + (record.token not in self._begun)))
        self._begun.add(record.token)
        self._write(begun)
        return begun

    def ready(self, record: Record, target: str, result: Mapping[str, Any]) -> Record:
        """Store that the staged image is whole, and where it goes; the file must be on disk by now."""
        done = replace(record, target=target, result=result)
        self._write(done)
        return done

    def staged(self, record: Record) -> Path:
        """Return the place of a released image that is not published yet."""
        return self._staging / record.token

    def forget(self, record: Record) -> None:
        """Delete a record, and what of it was not published."""
        self._begun.discard(record.token)
        staged = self.staged(record)
        for path in (staged, partial_of(staged), self._place(record)):
            path.unlink(missing_ok=True)

    def records(self) -> list[Record]:
        """Return what the watch before left unfinished."""
        found = [self._read(path) for path in sorted(self._folder.glob("*.json"))]
        return [record for record in found if record is not None]

    def _place(self, record: Record) -> Path:
        return self._folder / f"{record.token}.json"

    def _write(self, record: Record) -> None:
        # Escaped as ASCII, so that a name of other bytes than UTF-8 comes back as it was.
        write_atomic(self._place(record), json.dumps(asdict(record)).encode())

    @staticmethod
    def _read(path: Path) -> Record | None:
        try:
            return Record(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):  # not written by this version: the image is crafted again
            path.unlink()
            return None
