"""Jobs: what clients wait for, so that a service that starts again knows what it accepted."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, insert, or_, select, update

from withhold.online.ledger.clients import COLUMNS, client, locked
from withhold.online.ledger.database import Database
from withhold.online.ledger.tables import clients, jobs
from withhold.online.ledger.values import FINISHED, Client, Job, JobState

JOB = (
    jobs.c.id,
    jobs.c.idempotency_key,
    jobs.c.images,
    jobs.c.done,
    jobs.c.state,
    jobs.c.problem,
    jobs.c.created,
    jobs.c.updated,
)
"""What a `Job` has beside its client."""


class Jobs:
    """Jobs in a ledger's database; every method raises `LedgerUnavailable` while it is away."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def create(self, id: str, client: Client, idempotency_key: str | None, images: int) -> Job:
        """Make a job in the state accepted.

        Returns:
            It; or the one that this client has under this key already, known by its other id.

        Raises:
            UnknownClient: It is of another ledger.
        """
        now = self._clock()
        with self._database.writing() as connection:
            locked(connection, client)
            known = None if idempotency_key is None else _one(connection, _of_key(client, idempotency_key))
            if known is not None:
                return known
            row = {"id": id, "client_id": client.id, "idempotency_key": idempotency_key, "images": images, "done": 0}
            connection.execute(insert(jobs).values(**row, state=JobState.ACCEPTED.value, created=now, updated=now))
            created = _one(connection, jobs.c.id == id)
        assert created is not None
        return created

    def get(self, id: str, client: Client) -> Job | None:
        """Find a job; None if there is none, or it is another client's."""
        with self._database.reading() as connection:
            return _one(connection, and_(jobs.c.id == id, jobs.c.client_id == client.id))

    def find(self, client: Client, idempotency_key: str) -> Job | None:
        """Find the job that a client has under a key."""
        with self._database.reading() as connection:
            return _one(connection, _of_key(client, idempotency_key))

    def update(
        self,
        id: str,
        *,
        state: JobState | None = None,
        done: int | None = None,
        problem: str | None = None,
    ) -> bool:
        """Change what is given of a job that is not finished.

        Returns:
            Whether it was changed: not if it is finished, and so not if it was cancelled meanwhile.
        """
        given = {"state": None if state is None else state.value, "done": done, "problem": problem}
        changed = {name: value for name, value in given.items() if value is not None}
        chosen = update(jobs).where(jobs.c.id == id, ~_finished()).values(**changed, updated=self._clock())
        with self._database.writing() as connection:
            return connection.execute(chosen).rowcount > 0

    def end(self, id: str) -> None:
        """Leave a job that is not finished as cancelled, and one that is done as deleted; any other stays as it is."""
        done = jobs.c.state == JobState.DONE.value
        after = case((done, JobState.DELETED.value), else_=JobState.CANCELLED.value)
        chosen = update(jobs).where(jobs.c.id == id, or_(done, ~_finished()))
        with self._database.writing() as connection:
            connection.execute(chosen.values(state=after, updated=self._clock()))

    def unfinished(self) -> list[Job]:
        """List the jobs of all clients that are accepted or running, the oldest first."""
        with self._database.reading() as connection:
            return _find(connection, ~_finished())

    def delete_old(self, before: datetime) -> list[str]:
        """Delete jobs that were finished before a moment.

        Returns:
            Their ids, so that their files can be deleted as well.
        """
        old = and_(_finished(), jobs.c.updated < before)
        with self._database.writing() as connection:
            return sorted(connection.execute(delete(jobs).where(old).returning(jobs.c.id)).scalars())


def _finished() -> ColumnElement[bool]:
    return jobs.c.state.in_([state.value for state in FINISHED])


def _of_key(client: Client, idempotency_key: str) -> ColumnElement[bool]:
    return and_(jobs.c.client_id == client.id, jobs.c.idempotency_key == idempotency_key)


def _find(connection: Connection, chosen: ColumnElement[bool]) -> list[Job]:
    both = select(*COLUMNS, *JOB).join_from(jobs, clients, jobs.c.client_id == clients.c.id)
    rows = connection.execute(both.where(chosen).order_by(jobs.c.created, jobs.c.id))
    return [_job(row) for row in rows]


def _one(connection: Connection, chosen: ColumnElement[bool]) -> Job | None:
    return next(iter(_find(connection, chosen)), None)


def _job(row: Sequence[Any]) -> Job:
    id, key, images, done, state, problem, created, updated = row[len(COLUMNS) :]
    return Job(id, client(row), key, images, done, JobState(state), problem, created, updated)
