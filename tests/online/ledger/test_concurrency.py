import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from tests.online.ledger.conftest import Open, add, entry, reserve, wanted

from withhold.errors import InvalidInput
from withhold.online.ledger import (
    Client,
    JobState,
    Ledger,
    PairLimitReached,
    QuotaExceeded,
    Reservation,
    default_url,
)

THREADS = 8


def together(tasks: list[Callable[[], object]]) -> list[object]:
    """Run every task in a thread of its own, all from the same moment; errors are results."""
    ready = threading.Barrier(len(tasks))

    def run(task: Callable[[], object]) -> object:
        ready.wait()
        try:
            return task()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def reserving(ledger: Ledger, client: Client, names: list[int], key: str | None = None) -> Callable[[], Reservation]:
    return lambda: reserve(ledger, client, wanted(*names), key)


@pytest.fixture
def ledgers(open_ledger: Open) -> list[Ledger]:
    """As two processes of one service have them."""
    return [open_ledger(), open_ledger()]


def test_a_quota_holds_against_callers_at_the_same_moment(ledgers: list[Ledger]) -> None:
    client = add(ledgers[0], images_per_day=10)
    asked = [reserving(ledgers[number % 2], client, [3 * number, 3 * number + 1]) for number in range(THREADS)]
    results = together([*asked, *(reserving(ledgers[0], client, [100 + number]) for number in range(4))])
    given = sum(len(result.wanted) for result in results if isinstance(result, Reservation))
    refused = [result for result in results if not isinstance(result, Reservation)]
    assert given == 10
    assert refused
    assert all(isinstance(result, QuotaExceeded) for result in refused)
    assert ledgers[1].usage(client).images_today == 10


def test_a_pair_limit_holds_against_callers_at_the_same_moment(ledgers: list[Ledger]) -> None:
    """All want one image in common, which counts once, and one of their own."""
    client = add(ledgers[0], pairs=5)
    results = together([reserving(ledgers[number % 2], client, [0, 1 + number]) for number in range(THREADS)])
    given = [result for result in results if isinstance(result, Reservation)]
    assert len(given) == 4
    assert sum(isinstance(result, PairLimitReached) for result in results) == THREADS - 4

    def record(number: int) -> Callable[[], object]:
        reservation = given[number]
        return lambda: ledgers[number % 2].record(reservation, [entry(each) for each in reservation.wanted])

    assert together([record(number) for number in range(4)]) == [None] * 4
    assert ledgers[0].usage(client).pairs == 5


def test_a_key_counts_once_for_callers_at_the_same_moment(ledgers: list[Ledger]) -> None:
    client = add(ledgers[0], images_per_day=2, pairs=2)
    results = together([reserving(ledgers[number % 2], client, [1, 2], "key") for number in range(THREADS)])
    reservations = [result for result in results if isinstance(result, Reservation)]
    assert len(reservations) == THREADS
    assert len({reservation.id for reservation in reservations}) == 1
    assert sorted(reservation.replayed for reservation in reservations) == [False] + [True] * (THREADS - 1)
    released = [entry(each) for each in wanted(1, 2)]
    assert together([lambda: ledgers[0].record(reservations[0], released)] * THREADS) == [None] * THREADS
    assert len(list(ledgers[1].entries())) == 2


def test_what_one_of_two_gives_back_the_other_may_record(ledgers: list[Ledger]) -> None:
    client = add(ledgers[0], images_per_day=1)
    first, second = (reserving(ledgers[number], client, [1], "key")() for number in range(2))
    results = together([lambda: ledgers[0].release(first), lambda: ledgers[1].record(second, [entry(*wanted(1))])])
    assert results == [None, None]
    assert len(list(ledgers[0].entries())) == 1


def test_a_name_is_given_once(ledgers: list[Ledger]) -> None:
    results = together([lambda: ledgers[0].add_client("app"), lambda: ledgers[1].add_client("app")] * 3)
    tokens = [result for result in results if isinstance(result, str)]
    assert len(tokens) == 1
    assert sum(isinstance(result, InvalidInput) for result in results) == 5
    assert ledgers[0].client_of(tokens[0]) == ledgers[0].clients()[0]


def test_a_job_is_made_once_for_a_key_and_finished_once(ledgers: list[Ledger]) -> None:
    client = add(ledgers[0])
    names = [f"job{number}" for number in range(THREADS)]
    made = together([partial(ledgers[0].jobs.create, name, client, "key", 3) for name in names])
    assert len({str(job) for job in made}) == 1
    (job,) = ledgers[1].jobs.unfinished()
    ends = [JobState.DONE, JobState.CANCELLED] * 3
    changed = together([partial(ledgers[0].jobs.update, job.id, state=state) for state in ends])
    assert sorted(map(bool, changed)) == [False] * 5 + [True]


def test_those_that_start_at_the_same_moment_make_the_tables_once(url: str) -> None:
    """Locks of files and of PostgreSQL belong to connections, so that threads stand for processes."""
    ledgers = together([lambda: Ledger.open(url)] * 6)
    assert {type(ledger) for ledger in ledgers} == {Ledger}
    for ledger in ledgers:
        assert isinstance(ledger, Ledger)
        ledger.ping()
        ledger.close()


def test_different_ledgers_that_are_made_at_the_same_moment_each_have_their_tables(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / str(number)}.db" for number in range(THREADS)]
    ledgers = together([partial(Ledger.open, url) for url in urls])
    for ledger in ledgers:
        assert isinstance(ledger, Ledger)
        assert [client.name for client in (add(ledger), *ledger.clients())] == ["app", "app"]
        ledger.close()


WORKER = """
import sys
from tests.online.ledger.conftest import entry, reserve, wanted
from withhold.online.ledger import Ledger
ledger = Ledger.open(sys.argv[1])
client = ledger.clients()[0]
for number in range(10**6):
    reservation = reserve(ledger, client, wanted(number), str(number))
    ledger.record(reservation, [entry(*wanted(number))])
    print(number, flush=True)
"""


def test_a_killed_process_leaves_what_it_recorded_and_locks_nothing(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    ledger = Ledger.open(url)
    client = add(ledger)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(10)]
    os.kill(process.pid, signal.SIGKILL)
    said += [int(line) for line in process.stdout]
    process.stdout.close()
    process.wait()
    recorded = [row.sha256_before for row in ledger.entries()]
    assert recorded[: len(said)] == [each.sha256_before for each in wanted(*said)]
    again = reserve(ledger, client, wanted(said[-1]), str(said[-1]))
    assert again.replayed
    ledger.close()
