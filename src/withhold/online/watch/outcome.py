"""What became of a file."""

from dataclasses import dataclass

from withhold.online.settings import SpeedName


@dataclass(frozen=True, slots=True)
class Protected:
    """An image whose released form is in the outbox.

    Attributes:
        name: Of the original in the inbox.
        released: Of the released image in the outbox.
        label: Name of the class that it was protected as.
        label_was_given: Otherwise it is what the surrogate takes the image for.
        largest_change: Of any channel, in levels of 8 bit.
        psnr: In dB.
        sha256_before, sha256_after: Of the files' bytes.
        protector: Its fingerprint.
    """

    name: str
    released: str
    label: str
    label_was_given: bool
    speed: SpeedName
    largest_change: float
    psnr: float
    sha256_before: str
    sha256_after: str
    protector: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that cannot be protected.

    Attributes:
        name: In the inbox.
        moved_to: Path of where it is now; its reason lies beside it.
        problem: One sentence.
    """

    name: str
    moved_to: str
    problem: str
