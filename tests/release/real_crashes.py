"""Run as a program: protect with a surrogate trained on the source, killed in training, then in crafting, then resumed.

Arguments: source, destination. Every start is a fork of this process, which itself computes nothing.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.release.crashes import forget_fsync, survives

from withhold.progress import Silent
from withhold.release.run import protect
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar

CHOSEN: dict[str, Any] = {"steps": 2, "epochs": 1, "batch_size": 2, "objective": "alignment", "device": "cpu"}


class Deadly(Silent):
    """Kills its own process at the first progress of a task."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.current = ""

    def start(self, task: str, total: int, unit: str) -> None:  # noqa: ARG002
        self.current = task

    def advance(self, count: int = 1) -> None:  # noqa: ARG002
        if self.current == self.task:
            os.kill(os.getpid(), signal.SIGKILL)


def main(source: Path, destination: Path) -> None:
    """Kill twice, resume, and check that each kill met the run where it was meant to."""
    forget_fsync()
    settings = ProtectSettings(**CHOSEN)
    sidecar = Sidecar(destination)
    assert not survives(lambda: protect(source, destination, settings, reporter=Deadly("Training the surrogate")))
    assert sidecar.plan_document.exists()
    assert not sidecar.surrogate.exists()
    assert not survives(lambda: protect(source, destination, settings, reporter=Deadly("Crafting")))
    assert sidecar.surrogate.exists()
    assert 0 < len(sidecar.finished()) < 6
    assert survives(lambda: protect(source, destination, settings))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
