"""Any course of events on a ledger, against a model that recounts everything from the beginning."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.online.ledger.conftest import PROTECTOR, Clock, add, entry, wanted

from withhold.online.ledger import (
    IdempotencyConflict,
    Ledger,
    PairLimitReached,
    QuotaExceeded,
    Reservation,
    Wanted,
    default_url,
)

QUOTA, PAIRS = 6, 4
IMAGES = st.lists(
    st.builds(lambda name, speed: wanted(name, speed=speed)[0], st.integers(0, 4), st.sampled_from(["full", "quick"])),
    min_size=1,
    max_size=3,
)
KEYS = st.sampled_from([None, "one", "two"])


@dataclass
class Request:
    """What the model knows of a reservation: of each image when it was reserved, and whether it was recorded."""

    wanted: tuple[Wanted, ...]
    expires: datetime
    holders: int = 1
    reserved: dict[int, datetime] = field(default_factory=dict)
    recorded: set[int] = field(default_factory=set)

    def counting(self, now: datetime) -> set[int]:
        return self.recorded | (set(self.reserved) if self.expires > now else set())


class Events(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.clock = Clock()
        self.ledger = Ledger.open(default_url(Path(self.folder.name)), clock=self.clock)
        self.client = add(self.ledger, images_per_day=QUOTA, pairs=PAIRS)
        self.model: dict[str, Request] = {}
        self.keys: dict[str, str] = {}
        self.held: list[Reservation] = []

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def today(self) -> int:
        midnight = self.clock.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return sum(
            request.reserved[position] >= midnight
            for request in self.model.values()
            for position in request.counting(self.clock.now)
        )

    def pairs(self) -> set[Wanted]:
        """One of each form: its bytes are its own here."""
        return {
            request.wanted[position] for request in self.model.values() for position in request.counting(self.clock.now)
        }

    def refusal(self, needed: list[Wanted]) -> type[Exception] | None:
        """What is the matter with images that do not count yet."""
        new = set(needed) - self.pairs()
        if needed and self.today() + len(needed) > QUOTA:
            return QuotaExceeded
        return PairLimitReached if new and len(self.pairs()) + len(new) > PAIRS else None

    @rule(images=IMAGES, key=KEYS)
    def reserve(self, images: list[Wanted], key: str | None) -> None:
        id = self.keys.get(key or "")
        request = self.model[id] if id is not None else Request(tuple(images), self.clock.now)
        needed = [p for p in range(len(images)) if p not in request.counting(self.clock.now)]
        same = request.wanted == tuple(images)
        expected = self.refusal([images[p] for p in needed]) if same else IdempotencyConflict
        if expected is not None:
            with pytest.raises(expected):
                self.ledger.reserve(self.client, images, idempotency_key=key, protector=PROTECTOR)
            return
        made = self.ledger.reserve(self.client, images, idempotency_key=key, protector=PROTECTOR)
        assert made.replayed == (not needed)
        if id is not None:
            request.holders += 1
        for position in needed:
            request.reserved[position] = self.clock.now
        request.expires = self.clock.now + timedelta(hours=1)
        self.model[made.id] = request
        if key is not None:
            self.keys[key] = made.id
        self.held.append(made)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def record(self, data: st.DataObject) -> None:
        made = data.draw(st.sampled_from(self.held))
        request = self.model[made.id]
        released = data.draw(st.lists(st.sampled_from([request.wanted[p] for p in request.reserved]), max_size=3))
        recording = {p for p in request.reserved if request.wanted[p] in released}
        late = recording - request.counting(self.clock.now)
        expected = self.refusal([request.wanted[p] for p in late])
        if expected is not None:
            with pytest.raises(expected):
                self.ledger.record(made, [entry(each) for each in released])
            return
        self.ledger.record(made, [entry(each) for each in released])
        request.recorded |= recording
        request.reserved |= dict.fromkeys(late, self.clock.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        made = data.draw(st.sampled_from(self.held))
        self.held.remove(made)
        self.ledger.release(made)
        request = self.model[made.id]
        request.holders -= 1
        if request.holders == 0:
            request.reserved = {p: when for p, when in request.reserved.items() if p in request.recorded}
            if not request.recorded:
                del self.model[made.id]
                self.keys = {key: id for key, id in self.keys.items() if id != made.id}

    @rule(minutes=st.sampled_from([20, 60, 24 * 60]))
    def wait(self, minutes: int) -> None:
        self.clock.advance(minutes=minutes)

    @invariant()
    def usage_is_that_of_the_model(self) -> None:
        usage = self.ledger.usage(self.client, PROTECTOR)
        assert usage.images_today == self.today() <= QUOTA
        assert usage.pairs == len(self.pairs()) <= PAIRS

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        assert len(list(self.ledger.entries())) == sum(len(request.recorded) for request in self.model.values())


TestEvents = Events.TestCase
TestEvents.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
