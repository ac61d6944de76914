from datetime import timedelta

import pytest
from tests.online.ledger.conftest import Clock, add

from withhold.online.ledger import FINISHED, Job, JobState, Ledger


def test_a_job_is_what_was_accepted(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger)
    made = ledger.jobs.create("a", client, "key", 5)
    assert made == Job("a", client, "key", 5, 0, JobState.ACCEPTED, None, clock.now, clock.now)
    assert ledger.jobs.get("a", client) == ledger.jobs.find(client, "key") == made
    assert ledger.jobs.get("b", client) is None
    assert ledger.jobs.find(client, "other") is None


def test_only_its_client_finds_a_job(ledger: Ledger) -> None:
    one, other = add(ledger, "one"), add(ledger, "other")
    ledger.jobs.create("a", one, "key", 1)
    assert ledger.jobs.get("a", other) is None
    assert ledger.jobs.find(other, "key") is None
    assert ledger.jobs.create("b", other, "key", 1).id == "b"


def test_a_key_gives_the_job_that_it_has(ledger: Ledger) -> None:
    client = add(ledger)
    made = ledger.jobs.create("a", client, "key", 1)
    assert ledger.jobs.create("b", client, "key", 1) == made
    assert {ledger.jobs.create(name, client, None, 1).id for name in "cd"} == {"c", "d"}


def test_changes_are_kept_and_others_stay(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger)
    made = ledger.jobs.create("a", client, None, 5)
    clock.advance(minutes=1)
    assert ledger.jobs.update("a", state=JobState.RUNNING)
    assert ledger.jobs.update("a", done=2)
    job = ledger.jobs.get("a", client)
    assert job is not None
    assert (job.state, job.done, job.created, job.updated) == (JobState.RUNNING, 2, made.created, clock.now)
    assert ledger.jobs.update("a", state=JobState.FAILED, problem="The spool is gone.")
    failed = ledger.jobs.get("a", client)
    assert failed is not None
    assert (failed.state, failed.done, failed.problem) == (JobState.FAILED, 2, "The spool is gone.")
    assert not ledger.jobs.update("b", done=1)


@pytest.mark.parametrize("end", sorted(FINISHED))
def test_a_finished_job_stays_as_it_is(ledger: Ledger, end: JobState) -> None:
    client = add(ledger)
    ledger.jobs.create("a", client, None, 1)
    assert ledger.jobs.update("a", state=end)
    assert not ledger.jobs.update("a", state=JobState.RUNNING, done=1)
    job = ledger.jobs.get("a", client)
    assert job is not None
    assert (job.state, job.done) == (end, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (JobState.ACCEPTED, JobState.CANCELLED),
        (JobState.RUNNING, JobState.CANCELLED),
        (JobState.DONE, JobState.DELETED),
        (JobState.CANCELLED, JobState.CANCELLED),
        (JobState.FAILED, JobState.FAILED),
        (JobState.DELETED, JobState.DELETED),
    ],
)
def test_a_job_is_ended_by_what_it_was(ledger: Ledger, clock: Clock, before: JobState, after: JobState) -> None:
    client = add(ledger)
    for name in ("a", "other"):
        ledger.jobs.create(name, client, None, 5)
        ledger.jobs.update(name, state=before, done=2)
    then = clock.now
    clock.advance(minutes=1)
    ledger.jobs.end("a")
    ended, other = ledger.jobs.get("a", client), ledger.jobs.get("other", client)
    assert ended is not None
    assert other is not None
    assert (ended.state, ended.done, ended.updated) == (after, 2, then if before == after else clock.now)
    assert (other.state, other.updated) == (before, then)


def test_unfinished_jobs_are_listed_oldest_first_with_their_clients(ledger: Ledger, clock: Clock) -> None:
    one, other = add(ledger, "one"), add(ledger, "other")
    for name, client in (("c", one), ("b", other), ("a", one), ("d", one)):
        ledger.jobs.create(name, client, None, 1)
        clock.advance(seconds=1)
    ledger.jobs.update("b", state=JobState.RUNNING)
    ledger.jobs.update("a", state=JobState.DONE)
    ledger.revoke_client("other")
    listed = ledger.jobs.unfinished()
    assert [job.id for job in listed] == ["c", "b", "d"]
    assert [(job.client.name, job.client.revoked) for job in listed] == [
        ("one", None),
        ("other", clock.now),
        ("one", None),
    ]


def test_old_jobs_are_deleted_once_they_are_finished(ledger: Ledger, clock: Clock) -> None:
    client = add(ledger)
    for name in ("waiting", "done", "cancelled"):
        ledger.jobs.create(name, client, None, 1)
    ledger.jobs.update("done", state=JobState.DONE)
    ledger.jobs.update("cancelled", state=JobState.CANCELLED)
    clock.advance(hours=1)
    ledger.jobs.create("new", client, None, 1)
    ledger.jobs.update("new", state=JobState.DONE)
    assert ledger.jobs.delete_old(clock.now - timedelta(hours=1)) == []
    assert ledger.jobs.delete_old(clock.now) == ["cancelled", "done"]
    assert ledger.jobs.get("done", client) is None
    assert [job.id for job in ledger.jobs.unfinished()] == ["waiting"]
