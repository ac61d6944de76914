"""Run as a program: protect one source again and again, each time killed some file operations later, then resumed.

Arguments: source, folder for the releases, most operations to try, step between them. Prints how many runs were killed.
Every run is a fork of this process, which itself never starts a thread, so that each one begins alike and at once.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.release.fakes import UniformCrafter, settings

from withhold.data.pixels import Picture
from withhold.release.crafting import Crafted, Shown
from withhold.release.materials import Materials
from withhold.release.run import run

OPERATIONS = ("replace", "fsync", "mkdir", "rmdir", "unlink")


def kill_before_operation(number: int) -> None:
    """Make this process kill itself just before it changes the file system for the `number`-th time."""
    done = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            nonlocal done
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return operation(*args, **kwargs)

        return counting

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))


def forget_fsync() -> None:
    """Leave out what only a power failure would need: a killed process loses nothing that it wrote."""
    os.fsync = lambda fd: None  # noqa: ARG005


class DeadlyCrafter(UniformCrafter):
    """Kills its own process instead of crafting the second batch."""

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        if self.calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(pictures, shown, seed)


def make_deadly(materials: Materials) -> DeadlyCrafter:
    return DeadlyCrafter(float(materials.settings.eps))


def make_uniform(materials: Materials) -> UniformCrafter:
    return UniformCrafter(float(materials.settings.eps))


def survives(work: Callable[[], object]) -> bool:
    """Run something in a fork; False if it was killed, and an error if it failed in any other way."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "the run failed instead of being killed or finishing"
    return True


def main(source: Path, releases: Path, most: int, step: int) -> int:
    """Kill, resume and count the killed runs."""
    chosen = settings(batch_size=2)
    forget_fsync()
    killed = 0
    for number in range(0, most, step):
        destination = releases / f"{number:04d}"

        def attempt(stop: int = number, place: Path = destination) -> None:
            kill_before_operation(stop)
            run(source, place, chosen, make_uniform)

        def resume(place: Path = destination) -> None:
            run(source, place, chosen, make_uniform)

        if survives(attempt):
            break
        killed += 1
        survives(lambda: attempt(7))  # killed again soon after the resumed run began
        assert survives(resume)
    place = releases / "in-crafter"
    assert not survives(lambda: run(source, place, chosen, make_deadly))
    assert survives(lambda: run(source, place, chosen, make_uniform))
    return killed


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))  # noqa: T201
