"""The seam between HTTP and whatever protects images: this process, or replicas on other machines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from withhold.errors import WithholdError
from withhold.online.folder import Document
from withhold.online.protector import Released
from withhold.online.service.uploads import Upload
from withhold.online.settings import Speed, SpeedName


class Unavailable(WithholdError):
    """An image is not taken now; trying again later may help.

    Attributes:
        retry_after: Seconds after which to try, at least 1.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class QueueFull(Unavailable):
    """As many images wait as may."""


class Stopping(Unavailable):
    """The service ends, and hands back what it did not begin."""


@dataclass(frozen=True, slots=True)
class About:
    """What clients may know of a protector.

    Attributes:
        classes: Names of the labels, in the order of their indices.
        eps: Largest change, as a fraction of the pixel range, as it was written.
        bound: The same in whole levels of 8 bit.
        lanes: Images that are crafted side by side.
    """

    fingerprint: str
    classes: tuple[str, ...]
    eps: str
    bound: int
    speeds: Mapping[SpeedName, Speed]
    lanes: int

    @classmethod
    def of(cls, document: Document, bound: int) -> "About":
        """Take it from a protector's document."""
        return cls(
            document.fingerprint,
            document.classes,
            str(document.settings.eps),
            bound,
            document.speeds,
            document.lanes,
        )


class Crafting(Protocol):
    """Protects images. Used from one event loop.

    Attributes:
        about: The protector behind it.
    """

    about: About

    async def protect(self, upload: Upload, speed: SpeedName, *, patient: bool = False) -> Released:
        """Protect an image; cancelled, it leaves the queue.

        Args:
            patient: Wait until the queue takes it rather than be refused: for images of a request that was accepted.

        Raises:
            UnreadableImage: It is no complete still picture of a supported kind.
            QueueFull: As many images wait as may.
            Stopping: The service ends.
            RunStopped: The result is not fit to be released.
        """

    def waiting(self) -> int:
        """Count the images that wait or are crafted."""

    async def check(self) -> None:
        """Return if images can be protected.

        Raises:
            Unavailable: They cannot.
        """

    async def close(self) -> None:
        """End, after what is being crafted."""
