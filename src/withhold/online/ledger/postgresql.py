"""Connections to PostgreSQL that give up a server that does not answer."""

import math
import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

GRACE = 1.0
"""Seconds that a server has to say that a statement took too long."""

Result = TypeVar("Result")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when its server says nothing for too long.

    libpq's timeouts are about the network: they do not notice a server whose machine answers and whose process does
    not.

    Attributes:
        patience: Seconds.
    """

    patience = math.inf

    def wait(self, gen: PQGen[Result], *args: Any, **options: Any) -> Result:  # noqa: ANN401 - as psycopg's own
        """Wait for the server.

        Raises:
            psycopg.OperationalError: It says nothing.
        """
        return super().wait(self._unless_silent(gen), *args, **options)

    def _unless_silent(self, gen: PQGen[Result]) -> PQGen[Result]:
        """Do what a generator does, which psycopg wakes ten times a second, unless there is nothing for too long."""
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.patience:
                    self.close()
                    msg = f"the server has not answered for {self.patience:g} s"
                    raise psycopg.OperationalError(msg)
                wanted = gen.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result


def connect(seconds: float, *args: Any, **options: Any) -> PatientConnection:  # noqa: ANN401 - as psycopg's own
    """Connect to a server that has so many seconds for a statement.

    Raises:
        psycopg.OperationalError: It cannot be reached, or says nothing.
    """
    connection = PatientConnection.connect(*args, **options)
    connection.patience = seconds + GRACE
    connection.execute(f"SET statement_timeout = {max(1, round(1000 * seconds))}")
    connection.commit()
    return connection
