"""Crafters that bring trouble to the workers they run in; imported by the workers, too."""

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.release.fakes import UniformCrafter

from withhold.data.pixels import Picture
from withhold.release.crafting import Crafted, Shown


def first(place: Path) -> bool:
    """Say whether no other process was here before."""
    try:
        place.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@dataclass
class Troubled(UniformCrafter):
    """Does what goes wrong before it crafts.

    Attributes:
        place: A folder that all workers see.
    """

    place: Path = Path()

    def on(self, device: str) -> "Troubled":  # noqa: ARG002
        return self

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        self.trouble(seed)
        return super().__call__(pictures, shown, seed)

    def trouble(self, seed: int) -> None:
        """Go wrong."""
        raise NotImplementedError


class KilledOnce(Troubled):
    """Its worker is killed in the middle of the first batch."""

    def trouble(self, seed: int) -> None:  # noqa: ARG002
        if first(self.place / "killed"):
            os.kill(os.getpid(), signal.SIGKILL)


class Deadly(Troubled):
    """One batch kills every worker that crafts it."""

    def trouble(self, seed: int) -> None:
        chosen = self.place / "chosen"
        if first(self.place / "claimed"):
            chosen.write_text(str(seed))
        if chosen.exists() and chosen.read_text() == str(seed):
            os.kill(os.getpid(), signal.SIGKILL)


class Stuck(Troubled):
    """The worker that crafts first never gets on."""

    def trouble(self, seed: int) -> None:  # noqa: ARG002
        if first(self.place / "stuck"):
            threading.Event().wait()


class FailingTwice(Troubled):
    """What an object store does now and then."""

    def trouble(self, seed: int) -> None:  # noqa: ARG002
        if first(self.place / "one") or first(self.place / "two"):
            msg = "503 slow down"
            raise OSError(msg)


class FullDisk(Troubled):
    def trouble(self, seed: int) -> None:  # noqa: ARG002
        from withhold.errors import RunStopped  # noqa: PLC0415

        msg = "no space left on the disk"
        raise RunStopped(msg)


class Gated(Troubled):
    """Nothing is crafted before a file says so."""

    def trouble(self, seed: int) -> None:  # noqa: ARG002
        while not (self.place / "go").exists():
            threading.Event().wait(0.02)
