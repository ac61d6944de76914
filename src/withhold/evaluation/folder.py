"""The folder of a report: taken for one evaluation at a time, and never one that holds anything else."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from withhold.data.atomic import partial_of
from withhold.errors import InvalidInput
from withhold.progress import Reporter

CELLS, LOCK = "cells", ".lock"


@contextmanager
def claimed(output: Path, datasets: Iterable[Path], files: Collection[str], reporter: Reporter) -> Iterator[Path]:
    """Hold a folder for a report, made if it is not there, for as long as the block runs.

    Args:
        datasets: What is evaluated; the folder must not become a part of any.
        files: Names of what such an evaluation leaves in its folder, besides its results and its lock.

    Yields:
        The folder of the cells' results.

    Raises:
        InvalidInput: The folder lies inside a dataset, holds something that no such evaluation made, or another
            evaluation writes to it.
    """
    _check_place(output, datasets)
    _check_content(output, files)
    made = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        msg = f"another evaluation is writing to {output}; wait for it, or choose another folder"
        raise InvalidInput(msg) from None
    try:
        yield output / CELLS
    except KeyboardInterrupt:
        reporter.say(f"Interrupted. Finished trainings are kept in {output}; the same command goes on from there.")
        raise
    except InvalidInput:
        if made and [path.name for path in output.iterdir()] == [LOCK]:
            (output / LOCK).unlink()
            output.rmdir()
        raise
    finally:
        lock.release()


def _check_place(output: Path, datasets: Iterable[Path]) -> None:
    for place in datasets:
        if output.resolve().is_relative_to(place.resolve()):
            msg = f"{output} lies inside of {place}, whose part the report would become; name another folder"
            raise InvalidInput(msg)
    if output.exists() and not output.is_dir():
        msg = f"{output} is a file; name a folder for the report"
        raise InvalidInput(msg)


def _check_content(output: Path, files: Collection[str]) -> None:
    """Refuse a folder with foreign files; what a kill leaves while a file is written is not foreign."""
    ours = {CELLS, LOCK, *files, *(partial_of(Path(name)).name for name in files)}
    foreign = sorted(path.name for path in output.iterdir() if path.name not in ours) if output.is_dir() else []
    if foreign:
        msg = f"{output} holds files that no evaluation made, such as {foreign[0]}; name a new folder"
        raise InvalidInput(msg)
