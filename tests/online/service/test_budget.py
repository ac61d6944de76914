import asyncio

import pytest

from withhold.online.service.budget import Budget

pytestmark = pytest.mark.anyio


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_there_is_room_for_a_number_and_a_size() -> None:
    budget = Budget(2, 10)
    with budget.take(6):
        assert budget.fits(4)
        assert not budget.fits(5)
        with budget.take(1):
            assert budget.taken == 2
            assert not budget.fits(0)
    assert budget.taken == 0
    assert budget.fits(10)


async def test_one_thing_fits_however_large() -> None:
    budget = Budget(2, 10)
    assert budget.fits(1000)
    with budget.take(1000):
        assert not budget.fits(0)


class Holder:
    """A task that holds room until it is told to let go."""

    def __init__(self, budget: Budget, size: int) -> None:
        self.holds, self.let_go = False, asyncio.Event()
        self.task = asyncio.create_task(self._hold(budget, size))

    async def _hold(self, budget: Budget, size: int) -> None:
        async with budget.await_room(size):
            self.holds = True
            await self.let_go.wait()


async def finish(budget: Budget, *holders: Holder) -> None:
    """Let those that hold room go, after which none is taken."""
    for each in holders:
        each.let_go.set()
        await each.task
    assert budget.taken == 0


async def test_who_waits_is_served_in_turn_and_a_small_thing_does_not_overtake() -> None:
    budget = Budget(2, 10)
    first, large, small = (Holder(budget, size) for size in (6, 8, 1))
    await settle()
    assert [first.holds, large.holds, small.holds] == [True, False, False]
    first.let_go.set()
    await settle()
    assert [large.holds, small.holds] == [True, True]
    await finish(budget, large, small)


async def test_who_waits_no_more_is_passed_over() -> None:
    budget = Budget(1, 10)
    first, second, third = (Holder(budget, 1) for _ in range(3))
    await settle()
    second.task.cancel()
    first.let_go.set()
    await settle()
    assert third.holds
    await finish(budget, third)


async def test_who_is_cancelled_when_served_gives_the_room_back() -> None:
    budget = Budget(1, 10)
    first, second = (Holder(budget, 1) for _ in range(2))
    await settle()
    first.let_go.set()
    await asyncio.sleep(0)  # the room is given on, but the second has not gone on yet
    assert not second.holds
    second.task.cancel()
    await asyncio.gather(second.task, return_exceptions=True)
    assert budget.taken == 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_who_holds_and_who_waits_may_be_cancelled_at_once(order: tuple[int, int]) -> None:
    budget = Budget(1, 10)
    both = [Holder(budget, 1) for _ in range(2)]
    later = Holder(budget, 1)
    await settle()
    for place in order:
        both[place].task.cancel()
    ends = await asyncio.gather(*(each.task for each in both), return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 2
    await settle()
    assert later.holds
    await finish(budget, later)


async def test_who_leaves_makes_room_for_a_smaller_one_behind() -> None:
    budget = Budget(2, 10)
    first, large, small = (Holder(budget, size) for size in (6, 8, 1))
    await settle()
    large.task.cancel()
    await settle()
    assert small.holds
    await finish(budget, first, small)
