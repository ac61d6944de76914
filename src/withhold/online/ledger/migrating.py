"""Bring a database to the tables of this version."""

import threading
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from withhold.errors import InvalidInput

FOLDER = Path(__file__).parent / "migrations"
TABLE = "ledger_schema"
"""Where the database says which revision it has."""

LOCK = 0x6C6564676572
"""Of PostgreSQL, for whoever migrates: two services may start at the same moment."""

ONE_AT_A_TIME = threading.Lock()
"""Revisions speak to `alembic.op`, of which a process has one: another thread's would run in this one's database."""


def migrate(connection: Connection, shown: str) -> None:
    """Run the revisions that a database lacks, in the caller's transaction.

    Args:
        shown: Its URL, for messages.

    Raises:
        InvalidInput: It has a revision that this version does not know.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    context = MigrationContext.configure(connection, opts={"version_table": TABLE})
    revisions = ScriptDirectory(FOLDER)
    # Oldest first; there are no branches.
    known = [script.revision for script in revisions.walk_revisions()][::-1]
    current = context.get_current_revision()
    if current is not None and current not in known:
        msg = (
            f"the ledger {shown} has schema {current}, and this version of Withhold knows schemas up to {known[-1]}; "
            "use the version that wrote it, or a newer one"
        )
        raise InvalidInput(msg)
    for revision in known[0 if current is None else known.index(current) + 1 :]:
        with ONE_AT_A_TIME, Operations.context(context):
            revisions.get_revision(revision).module.upgrade()
        context.stamp(revisions, revision)
