"""`watch`: images from an inbox, protected, into an outbox."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from withhold.errors import RunStopped
from withhold.online.protector import Protector
from withhold.online.watch.accounts import Accounts
from withhold.online.watch.arrivals import Arrivals
from withhold.online.watch.changes import Changes, Wait
from withhold.online.watch.filing import Filing
from withhold.online.watch.handling import Handler
from withhold.online.watch.journal import Journal
from withhold.online.watch.labels import Table, labels_of
from withhold.online.watch.outcome import Protected, Rejected
from withhold.online.watch.places import Places
from withhold.online.watch.settings import WatchSettings
from withhold.progress import SILENT, Reporter

DEFAULTS = WatchSettings()


@dataclass(frozen=True, slots=True)
class WatchReport:
    """How many files a watch finished from its start to its end."""

    protected: int
    rejected: int


def watch(
    places: Places,
    protector: Protector,
    settings: WatchSettings = DEFAULTS,
    *,
    once: bool = False,
    stop: threading.Event | None = None,
    tell: Callable[[Protected | Rejected], None] = lambda _: None,
    accounts: Accounts | None = None,
    reporter: Reporter = SILENT,
) -> WatchReport:
    """Protect every image that arrives in the inbox, until told to stop.

    A file is in one of three places at any time: in the inbox; in `places.done`, once its released image is in the
    outbox; or in `places.rejected`. A kill or a power failure at any moment neither loses an image nor publishes one
    twice, and the next watch goes on where this one ended.

    Args:
        once: End when nothing is left in the inbox that can be taken.
        stop: Set from elsewhere, it ends the watch after the images at hand.
        tell: Called with each file that is finished, and once more after a kill in the moment of telling.
        accounts: Enters what is released into a ledger.

    Raises:
        InvalidInput: Another watch holds a folder, the labels cannot be used, or watchfiles is not installed.
        RunStopped: A disk is full, a folder is gone, or a file cannot be moved; the next watch goes on from there.
    """
    stop = stop or threading.Event()
    counted = _Counted(tell)
    say = _SaidOnce(reporter.say)
    labels = labels_of(settings.labels)
    table = {labels.path.resolve()} if isinstance(labels, Table) else set[Path]()
    excluded = frozenset({places.rejected, *table} | ({places.done} if places.done else set()))
    arrivals = Arrivals(places.inbox, settings.settle, excluded, say=say)
    waiting: AbstractContextManager[Wait] = nullcontext(stop.wait) if once else Changes(places.inbox, stop, say)
    with _in_a_sentence(), places.locked(), waiting as wait:
        journal = Journal(places.journal, places.staging)
        filing = Filing(places, arrivals, journal, counted)
        suspects = filing.go_on()
        handler = Handler(
            protector, settings.speed, labels, arrivals, journal, filing, say, stop.is_set, suspects, accounts
        )
        reporter.say(f"Watching {places.inbox}.")
        while not stop.is_set():
            handler.handle(arrivals.look())
            soon = arrivals.wait()
            if once and soon is None:
                break
            wait(settings.rescan if soon is None else min(soon, settings.rescan))
    return WatchReport(counted.protected, counted.rejected)


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """Turn what the system refuses into a message.

    Raises:
        RunStopped: The system refused something.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        msg = f"the watch ended: {error.strerror or error} ({error.filename}). Nothing is lost; start it again."
        raise RunStopped(msg) from error


class _Counted:
    """Counts what is told."""

    def __init__(self, tell: Callable[[Protected | Rejected], None]) -> None:
        self._tell = tell
        self.protected = 0
        self.rejected = 0

    def __call__(self, outcome: Protected | Rejected) -> None:
        if isinstance(outcome, Protected):
            self.protected += 1
        else:
            self.rejected += 1
        self._tell(outcome)


class _SaidOnce:
    """Says each sentence once: the inbox is looked at again and again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)
