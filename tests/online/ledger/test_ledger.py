import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text
from tests.online.ledger.conftest import PROTECTOR, Clock, Open, add, entry, released, reserve, wanted

from withhold.errors import InvalidInput
from withhold.online.ledger import (
    Client,
    Entry,
    IdempotencyConflict,
    Ledger,
    LedgerSettings,
    NotReserved,
    PairLimitReached,
    QuotaExceeded,
    UnknownClient,
    Usage,
    Wanted,
)

ON_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""For what is decided before the database is asked."""


def counted(ledger: Ledger, client: Client) -> tuple[int, int]:
    usage = ledger.usage(client, PROTECTOR)
    return usage.images_today, usage.pairs


# Clients


def test_a_token_finds_its_client_until_it_is_revoked(ledger: Ledger, clock: Clock) -> None:
    token = ledger.add_client("app", images_per_day=7, pairs=None)
    assert ledger.client_of(token) == Client(1, "app", 7, None, clock.now)
    assert ledger.client_of(token + "x") is None
    assert ledger.client_of("") is None
    assert ledger.client_of("\x00\udcff") is None
    clock.advance(hours=1)
    ledger.revoke_client("app")
    assert ledger.client_of(token) is None
    assert [client.revoked for client in ledger.clients()] == [clock.now]
    with pytest.raises(UnknownClient, match="no client 'app' with a token"):
        ledger.revoke_client("app")


def test_the_database_holds_the_hash_of_a_token_and_not_the_token(ledger: Ledger, url: str) -> None:
    token = ledger.add_client("app", images_per_day=None, pairs=None)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text("SELECT * FROM clients"))]
    engine.dispose()
    assert hashlib.sha256(token.encode()).hexdigest() in rows[0]
    assert token not in str(rows)


@ON_SQLITE
def test_tokens_are_never_the_same(ledger: Ledger) -> None:
    tokens = {ledger.add_client(f"app{number}", images_per_day=None, pairs=None) for number in range(5)}
    assert len(tokens) == 5
    assert all(len(token) >= 43 for token in tokens)


def test_without_being_told_pairs_are_limited_and_images_are_not(ledger: Ledger) -> None:
    client = ledger.client_of(ledger.add_client("app"))
    assert client is not None
    assert (client.images_per_day, client.pairs) == (None, 500)


def test_a_name_belongs_to_one_client(ledger: Ledger) -> None:
    add(ledger, "app")
    with pytest.raises(InvalidInput, match="a client 'app' already"):
        ledger.add_client("app", images_per_day=None, pairs=None)
    assert [client.name for client in ledger.clients()] == ["app"]


@ON_SQLITE
@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "a\n", "ü", "a/b"])
def test_names_that_are_none_are_refused(ledger: Ledger, name: str) -> None:
    with pytest.raises(InvalidInput, match="a client's name is made of"):
        ledger.add_client(name, images_per_day=None, pairs=None)


def test_a_revoked_client_gets_a_new_token_and_keeps_what_it_held(ledger: Ledger) -> None:
    token = ledger.add_client("app", images_per_day=None, pairs=2)
    client = ledger.client_of(token)
    assert client is not None
    released(ledger, client, wanted(1, 2))
    ledger.revoke_client("app")
    again = add(ledger, "app", pairs=2)
    assert again.id == client.id
    assert ledger.client_of(token) is None
    with pytest.raises(PairLimitReached):
        reserve(ledger, again, wanted(3))


def test_a_client_whose_token_was_revoked_meanwhile_reserves_nothing(ledger: Ledger) -> None:
    client = add(ledger)
    ledger.revoke_client("app")
    with pytest.raises(UnknownClient, match="was revoked"):
        reserve(ledger, client, wanted(1))
    assert counted(ledger, client) == (0, 0)
    with pytest.raises(UnknownClient, match="not in this ledger"):
        reserve(ledger, replace(client, id=99), wanted(1))


# Quota


def test_reserved_and_recorded_images_count_towards_the_quota(ledger: Ledger) -> None:
    client = add(ledger, images_per_day=3)
    released(ledger, client, wanted(1))
    reserve(ledger, client, wanted(2, 3))
    with pytest.raises(QuotaExceeded, match=r"3 images per day \(UTC\), 3 are used and 1 were asked") as caught:
        reserve(ledger, client, wanted(4))
    assert (caught.value.used, caught.value.images_per_day) == (3, 3)
    assert caught.value.retry_after == 12 * 60 * 60
    assert ledger.usage(client) == Usage(3, 3, 3, None)


def test_the_same_image_again_is_another_image_of_the_day(ledger: Ledger) -> None:
    client = add(ledger, images_per_day=3)
    released(ledger, client, wanted(1, 1))
    released(ledger, client, wanted(1))
    assert counted(ledger, client) == (3, 1)
    with pytest.raises(QuotaExceeded):
        reserve(ledger, client, wanted(1))


def test_a_day_ends_at_midnight_in_utc(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger, images_per_day=1)
    clock.now = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    released(ledger, client, wanted(1))
    with pytest.raises(QuotaExceeded) as caught:
        reserve(ledger, client, wanted(2))
    assert caught.value.retry_after == 1
    clock.advance(seconds=caught.value.retry_after)
    released(ledger, client, wanted(2))
    assert counted(ledger, client) == (1, 2)


def test_a_request_is_reserved_whole_or_not_at_all(ledger: Ledger) -> None:
    client = add(ledger, images_per_day=2, pairs=2)
    with pytest.raises(QuotaExceeded):
        reserve(ledger, client, wanted(1, 2, 3))
    assert counted(ledger, client) == (0, 0)
    reserve(ledger, client, wanted(1, 2))


def test_clients_do_not_share_limits(ledger: Ledger) -> None:
    one, other = (add(ledger, name, images_per_day=1, pairs=1) for name in ("one", "other"))
    released(ledger, one, wanted(1))
    released(ledger, other, wanted(1))
    assert counted(ledger, one) == counted(ledger, other) == (1, 1)


# Pairs


def test_pairs_are_limited_for_good(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger, pairs=2)
    released(ledger, client, wanted(1))
    reserve(ledger, client, wanted(2))
    with pytest.raises(PairLimitReached, match=r"the limit is 2 pairs .* 2 are held and 1 more were asked") as caught:
        reserve(ledger, client, wanted(3))
    assert (caught.value.held, caught.value.limit) == (2, 2)
    clock.advance(days=400)
    released(ledger, client, wanted(2))
    with pytest.raises(PairLimitReached):
        reserve(ledger, client, wanted(3))


def test_the_same_form_of_an_image_is_one_pair_and_other_forms_are_others(ledger: Ledger) -> None:
    client = add(ledger, pairs=2)
    released(ledger, client, wanted(1))
    released(ledger, client, wanted(1, 1))
    assert counted(ledger, client) == (3, 1)
    released(ledger, client, wanted(1, speed="quick"))
    for others in (wanted(1, label="dog"), wanted(1, speed="instant"), wanted(2)):
        with pytest.raises(PairLimitReached):
            reserve(ledger, client, others)
    released(ledger, client, wanted(1))
    assert counted(ledger, client) == (5, 2)


def test_what_is_reserved_twice_is_one_pair(ledger: Ledger) -> None:
    client = add(ledger, pairs=1)
    reserve(ledger, client, wanted(1, 1))
    reserve(ledger, client, wanted(1))
    assert counted(ledger, client) == (3, 1)


def test_labels_that_give_the_same_bytes_are_one_pair_once_that_is_known(ledger: Ledger) -> None:
    client = add(ledger, pairs=2)
    released(ledger, client, wanted(1, label=None))  # taken for an owl
    reservation = reserve(ledger, client, wanted(1, label="owl"))
    assert counted(ledger, client) == (2, 2)
    ledger.record(reservation, [entry(*wanted(1, label="owl"))])
    assert counted(ledger, client) == (2, 1)
    released(ledger, client, wanted(2))


def test_each_protector_has_its_own_pairs(ledger: Ledger) -> None:
    client = add(ledger, pairs=1)
    released(ledger, client, wanted(1))
    other = ledger.reserve(client, wanted(2), idempotency_key=None, protector="another")
    ledger.record(other, [entry(*wanted(2))])
    assert ledger.usage(client, PROTECTOR).pairs == ledger.usage(client, "another").pairs == 1
    assert ledger.usage(client, "a third").pairs == 0
    assert ledger.usage(client) == Usage(2, None, 1, 1)


def test_without_a_limit_there_is_none(ledger: Ledger) -> None:
    client = add(ledger)
    released(ledger, client, wanted(*range(40)))
    assert counted(ledger, client) == (40, 40)


# Idempotency keys


def test_the_same_request_again_counts_once(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger, images_per_day=2, pairs=2)
    first = released(ledger, client, wanted(1, 2), "key")
    assert not first.replayed
    for hours in (1, 48):
        clock.advance(hours=hours)
        again = released(ledger, client, wanted(1, 2), "key")
        assert again == replace(first, replayed=True)
    assert len(list(ledger.entries())) == 2
    assert counted(ledger, client) == (0, 2)


def test_the_same_request_counts_once_while_the_first_is_under_way(ledger: Ledger) -> None:
    client = add(ledger, images_per_day=1, pairs=1)
    first, second = (reserve(ledger, client, wanted(1), "key") for _ in range(2))
    assert (first.replayed, second.replayed) == (False, True)
    ledger.release(first)
    assert counted(ledger, client) == (1, 1)
    ledger.record(second, [entry(*wanted(1))])
    assert counted(ledger, client) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [wanted(2), wanted(1, 1), wanted(1, label="dog"), wanted(1, label=None), wanted(1, speed="quick")],
)
def test_a_key_is_bound_to_its_images(ledger: Ledger, other: list[Wanted]) -> None:
    client = add(ledger)
    released(ledger, client, wanted(1), "key")
    with pytest.raises(IdempotencyConflict, match="used before, for other images"):
        reserve(ledger, client, other, "key")
    assert counted(ledger, client) == (1, 1)


def test_a_key_is_bound_to_its_protector_and_to_its_client(ledger: Ledger) -> None:
    one, other = add(ledger, "one"), add(ledger, "other")
    released(ledger, one, wanted(1), "key")
    with pytest.raises(IdempotencyConflict):
        ledger.reserve(one, wanted(1), idempotency_key="key", protector="another")
    assert not released(ledger, other, wanted(2), "key").replayed


def test_without_keys_every_request_is_a_new_one(ledger: Ledger) -> None:
    client = add(ledger)
    assert not released(ledger, client, wanted(1)).replayed
    assert not released(ledger, client, wanted(1)).replayed
    assert counted(ledger, client) == (2, 1)


@ON_SQLITE
@pytest.mark.parametrize("key", ["", "k" * 256, "a\x00", "ü", "a\n"])
def test_keys_that_are_none_are_refused(ledger: Ledger, key: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 255 printable ASCII"):
        reserve(ledger, add(ledger), wanted(1), key)


@ON_SQLITE
def test_nothing_and_what_is_no_hash_is_refused(ledger: Ledger) -> None:
    client = add(ledger)
    with pytest.raises(InvalidInput, match="at least one image"):
        reserve(ledger, client, [])
    with pytest.raises(InvalidInput, match="64 hexadecimal digits"):
        reserve(ledger, client, [Wanted("cat.png", None, "full")])


# Reservations that come to nothing


def test_what_is_given_back_counts_no_more(ledger: Ledger) -> None:
    client = add(ledger, images_per_day=1, pairs=1)
    ledger.release(reserve(ledger, client, wanted(1), "key"))
    assert counted(ledger, client) == (0, 0)
    assert not released(ledger, client, wanted(2), "key").replayed
    assert counted(ledger, client) == (1, 1)


def test_what_was_recorded_is_not_given_back(ledger: Ledger) -> None:
    client = add(ledger)
    reservation = reserve(ledger, client, wanted(1, 2, 3), "key")
    ledger.record(reservation, [entry(*wanted(2))])
    ledger.release(reservation)
    ledger.release(reservation)
    assert counted(ledger, client) == (1, 1)
    assert [row.sha256_before for row in ledger.entries()] == [wanted(2)[0].sha256_before]


def test_the_same_request_may_try_again_what_failed(ledger: Ledger) -> None:
    client = add(ledger, images_per_day=2)
    reservation = reserve(ledger, client, wanted(1, 2), "key")
    ledger.record(reservation, [entry(*wanted(1))])
    ledger.release(reservation)
    again = released(ledger, client, wanted(1, 2), "key")
    assert again.id == reservation.id
    assert not again.replayed
    assert counted(ledger, client) == (2, 2)


def test_trying_again_what_failed_is_refused_if_it_does_not_fit_any_more(ledger: Ledger) -> None:
    client = add(ledger, images_per_day=2)
    reservation = reserve(ledger, client, wanted(1, 2), "key")
    ledger.record(reservation, [entry(*wanted(1))])
    ledger.release(reservation)
    reserve(ledger, client, wanted(3))
    with pytest.raises(QuotaExceeded):
        reserve(ledger, client, wanted(1, 2), "key")
    assert counted(ledger, client) == (2, 2)


def test_reservations_of_workers_that_were_killed_expire(open_ledger: Open, clock: Clock) -> None:
    ledger = open_ledger(LedgerSettings(reservation_hours=2))
    client = add(ledger, images_per_day=2, pairs=2)
    reserve(ledger, client, wanted(1, 2), "key")
    clock.advance(hours=2, seconds=-1)
    with pytest.raises(QuotaExceeded):
        reserve(ledger, client, wanted(3))
    clock.advance(seconds=1)
    assert counted(ledger, client) == (0, 0)
    reserve(ledger, client, wanted(3))
    with pytest.raises(QuotaExceeded):
        reserve(ledger, client, wanted(1, 2), "key")


def test_an_expired_request_that_comes_again_counts_again(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger, images_per_day=2)
    reserve(ledger, client, wanted(1, 2), "key")
    clock.advance(hours=1)
    again = reserve(ledger, client, wanted(1, 2), "key")
    assert not again.replayed
    assert counted(ledger, client) == (2, 2)


def test_a_replay_makes_a_reservation_last_longer(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger, images_per_day=1)
    reserve(ledger, client, wanted(1), "key")
    clock.advance(minutes=50)
    assert reserve(ledger, client, wanted(1), "key").replayed
    clock.advance(minutes=50)
    with pytest.raises(QuotaExceeded):
        reserve(ledger, client, wanted(2))


def test_a_reservation_may_be_made_for_longer(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger)
    ledger.reserve(client, wanted(1), idempotency_key="job", protector=PROTECTOR, hours=20)
    clock.advance(hours=11)
    assert reserve(ledger, client, wanted(1), "job").replayed  # which does not shorten it
    clock.advance(hours=8)
    assert ledger.usage(client).pairs == 1
    clock.advance(hours=1)
    assert ledger.usage(client).pairs == 0


def test_what_took_longer_than_its_reservation_is_counted_when_it_is_recorded(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger, images_per_day=2, pairs=2)
    reservation = reserve(ledger, client, wanted(1, 2))
    clock.advance(days=3)
    ledger.record(reservation, [entry(*wanted(1))])
    assert counted(ledger, client) == (1, 1)
    assert [row.recorded for row in ledger.entries()] == [clock.now]
    released(ledger, client, wanted(3))
    assert counted(ledger, client) == (2, 2)


@pytest.mark.parametrize(("quota", "pairs", "refusal"), [(2, None, QuotaExceeded), (None, 2, PairLimitReached)])
def test_what_took_longer_is_refused_if_others_have_its_place(
    ledger: Ledger, clock: Clock, quota: int | None, pairs: int | None, refusal: type[Exception]
) -> None:
    client = add(ledger, images_per_day=quota, pairs=pairs)
    reservation = reserve(ledger, client, wanted(1, 2))
    clock.advance(hours=2)
    released(ledger, client, wanted(3))
    ledger.record(reservation, [entry(*wanted(1))])
    with pytest.raises(refusal):
        ledger.record(reservation, [entry(*wanted(1)), entry(*wanted(2))])
    assert counted(ledger, client) == (2, 2)
    assert len(list(ledger.entries())) == 2


# Records


def test_recording_again_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger)
    reservation = released(ledger, client, wanted(1, 2))
    before = list(ledger.entries())
    clock.advance(minutes=5)
    ledger.record(reservation, [entry(each) for each in wanted(1, 2)])
    assert list(ledger.entries()) == before


def test_what_was_not_reserved_is_not_recorded_nor_what_came_with_it(ledger: Ledger) -> None:
    client = add(ledger)
    reservation = reserve(ledger, client, wanted(1))
    for stranger in (*wanted(2), *wanted(1, label="dog"), *wanted(1, speed="quick")):
        with pytest.raises(NotReserved, match="must not be released"):
            ledger.record(reservation, [entry(*wanted(1)), entry(stranger)])
    assert list(ledger.entries()) == []
    ledger.release(reservation)
    with pytest.raises(NotReserved):
        ledger.record(reservation, [entry(*wanted(1))])


def test_other_bytes_for_the_same_image_are_another_pair_and_a_line_of_their_own(ledger: Ledger) -> None:
    client = add(ledger)
    released(ledger, client, wanted(1), "key")
    again = reserve(ledger, client, wanted(1), "key")
    for _ in range(2):
        ledger.record(again, [entry(*wanted(1), after="on another processor")])
    assert counted(ledger, client) == (2, 2)
    assert len({row.sha256_after for row in ledger.entries()}) == 2


def test_rows_say_all_that_is_known(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger, "app")
    images = [*wanted(1, label="cat"), *wanted(2, label=None, speed="instant")]
    reservation = reserve(ledger, client, images)
    clock.advance(seconds=1)
    given, recognised = (entry(each) for each in images)
    ledger.record(reservation, [given, replace(recognised, eps=4, largest_change=3.5)])
    rows = list(ledger.entries())
    assert [(row.client, row.protector, row.reservation, row.recorded) for row in rows] == [
        ("app", PROTECTOR, reservation.id, clock.now)
    ] * 2
    stated = [Entry(*(getattr(row, name) for name in Entry.__slots__)) for row in rows]
    assert stated == [given, replace(recognised, eps=4, largest_change=3.5)]
    assert [row.label_was_given for row in rows] == [True, False]


def test_rows_are_chosen_by_client_and_by_time(ledger: Ledger, clock: Clock) -> None:
    one, other = add(ledger, "one"), add(ledger, "other")
    released(ledger, one, wanted(1))
    clock.advance(days=1)
    later = clock.now
    released(ledger, other, wanted(2))
    released(ledger, one, wanted(3))
    reserve(ledger, one, wanted(4))
    names = {wanted(name)[0].sha256_before: name for name in range(5)}

    def read(client: str | None = None, since: datetime | None = None) -> list[int]:
        return [names[row.sha256_before] for row in ledger.entries(client, since)]

    assert read() == [1, 2, 3]
    assert read("one") == [1, 3]
    assert read(since=later) == [2, 3]
    assert read("one", later) == [3]
    assert read("nobody") == []


def test_rows_are_read_a_page_at_a_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("withhold.online.ledger.ledger.PAGE", 3)
    client = add(ledger)
    released(ledger, client, wanted(*range(7)))
    assert len({row.sha256_before for row in ledger.entries()}) == 7
