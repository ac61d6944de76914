"""The ledger's threads, with a ledger that does not answer."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from withhold.online.ledger import LedgerUnavailable
from withhold.online.service import accounting
from withhold.online.service.accounting import Accounting

pytestmark = pytest.mark.anyio


class Hanging:
    """Say nothing of a client until `answering` is set; take back reservations at once."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.returned: list[object] = []

    def client_of(self, token: str) -> str:
        self.answering.wait()
        return token

    def release(self, reservation: object) -> None:
        self.returned.append(reservation)


async def test_calls_that_nobody_waits_for_any_more_do_not_pile_up_behind_a_hanging_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounting, "MOST", 12)
    ledger: Any = Hanging()
    about: Any = SimpleNamespace()
    books = Accounting(ledger, about)
    leaving = [asyncio.create_task(books.client_of("left")) for _ in range(12)]
    await asyncio.sleep(0)  # each begins its call
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    with pytest.raises(LedgerUnavailable, match="12 calls wait for it"):
        await books.client_of("late")
    reservation: Any = object()
    returning = asyncio.create_task(books.release(reservation))  # the end of what was accepted gets its turn
    await asyncio.sleep(0)
    assert not returning.done()
    ledger.answering.set()
    await returning
    assert ledger.returned == [reservation]
    client: object = await books.client_of("back")
    assert client == "back"
    await books.close()
