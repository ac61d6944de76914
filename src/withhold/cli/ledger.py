"""`withhold online ledger`, and the options that name a ledger."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, fields
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from withhold.cli.output import emit
from withhold.errors import InvalidInput
from withhold.online.ledger import Row, default_url
from withhold.online.ledger.settings import PROTECTOR

if TYPE_CHECKING:
    from withhold.online.ledger import Ledger

PAGE = 500
"""Lines that are printed at a time."""

ledger = typer.Typer(
    name="ledger", help="What was released, and to whom.", no_args_is_help=True, rich_markup_mode="rich"
)

Protector = Annotated[
    Path | None, typer.Option("--protector", help="Folder of a protector; its ledger is ledger.db within.")
]
Url = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        envvar="WITHHOLD_LEDGER",
        help="URL of another ledger, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE. In the environment "
        "a password is not seen by other users of the machine.",
    ),
]


class Format(StrEnum):
    """How lines are printed."""

    CSV = "csv"
    JSONL = "jsonl"


@ledger.command()
def export(
    *,
    protector: Protector = None,
    ledger: Url = None,
    form: Annotated[
        Format, typer.Option("--format", help="CSV with a header, or one JSON object per line.")
    ] = Format.CSV,
    client: Annotated[str | None, typer.Option(help="Lines of this client alone.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Lines recorded at or after this time, in UTC."),
    ] = None,
) -> None:
    """Print the released images, one per line: when, for whom, hashes before and after, label, speed and change.

    [bold]Examples[/bold]

    withhold online ledger export --protector protector/ > released.csv

    withhold online ledger export --protector protector/ --format jsonl --client app --since 2026-01-01
    """
    write = as_csv if form is Format.CSV else as_json_lines
    with opened(ledger, protector) as found:
        if client is not None and client not in {each.name for each in found.clients()}:
            msg = f"there is no client {client!r}; `withhold online client list` shows which there are"
            raise InvalidInput(msg)
        rows = found.entries(client, None if since is None else since.replace(tzinfo=UTC))
        for page in pages(rows, write):
            emit(page)


@contextmanager
def opened(url: str | None, protector: Path | None) -> "Iterator[Ledger]":
    """Open the ledger of a URL, or that of a protector.

    Raises:
        InvalidInput: Neither is given, the folder holds no protector, or the ledger cannot be opened.
        LedgerUnavailable: Its database cannot be reached.
    """
    if url is None and protector is None:
        msg = "which ledger? Give --protector FOLDER, --ledger URL, or the URL as WITHHOLD_LEDGER in the environment"
        raise InvalidInput(msg)
    if url is None and protector is not None:
        if not (protector / PROTECTOR).is_file():
            msg = f"{protector} is no protector: there is no {PROTECTOR}. Make one with `withhold online prepare`."
            raise InvalidInput(msg)
        url = default_url(protector)
    from withhold.online.ledger import Ledger  # noqa: PLC0415 - SQLAlchemy stays away from --help

    found = Ledger.open(str(url))
    try:
        yield found
    finally:
        found.close()


def pages(rows: Iterable[Row], write: Callable[[Iterable[Row], bool], str]) -> Iterator[str]:
    """Write rows some at a time, so that a ledger of any length is printed."""
    left, first = iter(rows), True
    while (some := list(islice(left, PAGE))) or first:
        text = write(some, first)
        if text:
            yield text
        first = False


def as_csv(rows: Iterable[Row], first: bool) -> str:
    """Write rows as CSV, with a header over the first ones."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if first:
        writer.writerow([field.name for field in fields(Row)])
    writer.writerows((row.recorded.isoformat(), *astuple(row)[1:]) for row in rows)
    return text.getvalue().rstrip("\n")


def as_json_lines(rows: Iterable[Row], first: bool) -> str:  # noqa: ARG001 - as `as_csv`
    """Write rows as one JSON object each."""
    return "\n".join(
        json.dumps({**asdict(row), "recorded": row.recorded.isoformat()}, ensure_ascii=False) for row in rows
    )
