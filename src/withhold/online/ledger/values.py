"""What goes into a ledger and comes out of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from withhold.online.settings import SpeedName

if TYPE_CHECKING:
    from withhold.online.protector import Released


@dataclass(frozen=True, slots=True)
class Client:
    """Whoever has a token.

    Attributes:
        name: Unique.
        images_per_day: Its quota; None is no quota.
        pairs: Of original and released image that it may hold of one protector; None is no limit.
        created: When its token was made, in UTC.
        revoked: When it was revoked, in UTC.
    """

    id: int
    name: str
    images_per_day: int | None
    pairs: int | None
    created: datetime
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that a client wants protected.

    Attributes:
        sha256_before: Of the bytes that were given, 64 hexadecimal digits.
        label: Name of the class that was given; None if the surrogate is to decide.
    """

    sha256_before: str
    label: str | None
    speed: SpeedName


@dataclass(frozen=True, slots=True)
class Reservation:
    """Images that count towards a client's limits from now on.

    Attributes:
        replayed: All of them were reserved or recorded before, under the same idempotency key; nothing was counted now.
    """

    id: str
    client: Client
    protector: str
    wanted: tuple[Wanted, ...]
    idempotency_key: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A released image.

    Attributes:
        sha256_before, sha256_after: Of the files' bytes, 64 hexadecimal digits.
        label: Name of the class that it was protected as.
        label_was_given: Otherwise the surrogate decided; as `Wanted.label` says.
        eps: Bound on the change, in levels of 8 bit.
        largest_change: Of any channel, in levels of 8 bit.
    """

    sha256_before: str
    sha256_after: str
    label: str
    label_was_given: bool
    speed: SpeedName
    eps: int
    largest_change: float

    @classmethod
    def of(cls, released: "Released", bound: int) -> "Entry":
        """Take it from a released image.

        Args:
            bound: On the change, in levels of 8 bit.
        """
        return cls(
            sha256_before=released.sha256_before,
            sha256_after=released.sha256_after,
            label=released.label,
            label_was_given=released.label_was_given,
            speed=released.speed,
            eps=bound,
            largest_change=released.largest_change,
        )

    @property
    def wanted(self) -> Wanted:
        """What was asked for."""
        return Wanted(self.sha256_before, self.label if self.label_was_given else None, self.speed)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a client has had.

    Attributes:
        images_today: Since midnight, UTC; reserved ones among them.
        pairs: That it could hold now; reserved ones among them.
    """

    images_today: int
    images_per_day: int | None
    pairs: int
    pairs_limit: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the ledger: a released image, when it was recorded (UTC), for whom, and by which protector.

    Attributes:
        client: Its name.
        protector: Its fingerprint.
    """

    recorded: datetime
    client: str
    protector: str
    sha256_before: str
    sha256_after: str
    label: str
    label_was_given: bool
    speed: str
    eps: int
    largest_change: float
    reservation: str


class JobState(StrEnum):
    """How far a job is; one whose results were deleted was done before."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"
    DELETED = "deleted"
    CANCELLED = "cancelled"
    FAILED = "failed"


FINISHED = frozenset({JobState.DONE, JobState.DELETED, JobState.CANCELLED, JobState.FAILED})
"""States in which nothing more is done for a job."""


@dataclass(frozen=True, slots=True)
class Job:
    """Images that a client waits for, and how far they are.

    Attributes:
        images: That belong to it.
        done: That are finished.
        problem: One sentence, if it failed.
        created, updated: In UTC.
    """

    id: str
    client: Client
    idempotency_key: str | None
    images: int
    done: int
    state: JobState
    problem: str | None
    created: datetime
    updated: datetime
