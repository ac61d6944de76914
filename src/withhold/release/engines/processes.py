"""The engine of several processes on this machine: one for each device, each of which works as `Local` does."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any

import torch.multiprocessing

from withhold.errors import RunStopped
from withhold.processes import end_with
from withhold.progress import SILENT, Reporter
from withhold.release.engines.batches import Batch, Finish, Record, Work
from withhold.release.engines.local import AHEAD, BEHIND, Local

HELD = AHEAD + 1 + BEHIND
"""Batches that a process has at a time: those it reads ahead, crafts, and writes."""


@dataclass(frozen=True, slots=True, eq=False)
class _Finished:
    number: int
    record: Record


@dataclass(frozen=True, slots=True, eq=False)
class _Over:
    """A process ended its work: with the seconds that it crafted, or with what went wrong."""

    seconds: float
    error: Exception | None = None


class Processes:
    """Works in one process for each device.

    Args:
        devices: Names as PyTorch knows them; the same one may be named several times.
    """

    threads: int | None = None

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = tuple(devices)

    def work_off(self, work: Work, batches: Iterable[Batch], finish: Finish, reporter: Reporter) -> float:
        """Craft and store batches; see `Engine`. `finish` is called in this thread.

        Raises:
            RunStopped: The work cannot go on, or a process was killed.
        """
        todo = iter(batches)
        seconds = 0.0
        with _started(work, self._devices) as links:
            working = set(links)
            for link in HELD * list(links):  # one to each, then another to each
                _give(link, next(todo, None))
            while working:
                for link in [each for each in wait(list(working)) if isinstance(each, Connection)]:
                    said = _heard(link)
                    if isinstance(said, _Over):
                        if said.error is not None:
                            raise said.error
                        seconds += said.seconds
                        working.discard(link)
                        continue
                    finish(said.number, said.record)
                    reporter.advance(len(said.record.rows))
                    _give(link, next(todo, None))
        return seconds


def _give(link: Connection, batch: Batch | None) -> None:
    with contextlib.suppress(OSError):  # a process that is gone is noticed when it is heard
        link.send(batch)


def _heard(link: Connection) -> "_Finished | _Over":
    try:
        said: _Finished | _Over = link.recv()
    except (EOFError, OSError) as error:
        msg = (
            "a process that crafted was killed, perhaps for lack of memory. Finished batches are kept; run the same "
            "command again to go on, perhaps with smaller batches or fewer devices."
        )
        raise RunStopped(msg) from error
    return said


@contextlib.contextmanager
def _started(work: Work, devices: Sequence[str]) -> Iterator[Sequence[Connection]]:
    """Start the processes, and end them with the block."""
    context: Any = torch.multiprocessing.get_context("spawn")
    portable = replace(work, crafter=work.crafter.on("cpu"))
    # Nothing is sent through it: its other end is closed when this process has no use for the others, or is gone.
    watched, held = context.Pipe(duplex=False)
    processes, links = [], []
    try:
        for device in devices:
            link, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(portable, device, theirs, watched), daemon=True)
            process.start()
            processes.append(process)
            theirs.close()
            links.append(link)
        yield links
    finally:
        held.close()
        for process in processes:
            process.join()


def _receive(link: Connection, todo: "SimpleQueue[Batch | None]") -> None:
    with contextlib.suppress(EOFError, OSError):
        while (batch := link.recv()) is not None:
            todo.put(batch)
    todo.put(None)


def _serve(work: Work, device: str, link: Connection, watched: Connection) -> None:
    """Work off what comes through a connection, until nothing comes any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one decides
    end_with(watched)
    todo: SimpleQueue[Batch | None] = SimpleQueue()
    # Whatever is crafted, the connection is read: two processes that write to each other would both wait.
    threading.Thread(target=_receive, args=(link, todo), daemon=True).start()
    try:
        here = replace(work, crafter=work.crafter.on(device))
        seconds = Local().work_off(
            here, iter(todo.get, None), lambda number, record: link.send(_Finished(number, record)), SILENT
        )
        link.send(_Over(seconds))
    except Exception as error:
        link.send(_Over(0.0, error if isinstance(error, RunStopped) else RunStopped(f"crafting failed: {error!r}.")))
