"""`withhold online`: `prepare`, and the commands of `clients.py` and `ledger.py`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from withhold.cli.clients import client
from withhold.cli.console import reporting
from withhold.cli.ledger import ledger
from withhold.cli.options import read_settings, with_settings
from withhold.cli.output import as_json, emit
from withhold.cli.shared import Json, Quiet, Source
from withhold.online.settings import OnlineSettings

if TYPE_CHECKING:
    from withhold.online.prepare import Prepared

online = typer.Typer(
    name="online",
    help="Protect images one at a time, as they are released.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@with_settings(OnlineSettings)
def prepare(
    source: Source,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the protector, which must stay private.")],
    config: Annotated[Path | None, typer.Option(help="TOML file whose table \\[prepare] holds settings.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    **given: Any,  # noqa: ANN401 - one option per setting
) -> None:
    """Prepare a protector from labelled images: its surrogate, its generator and its key.

    The images are only read; they are not protected yet. The same command resumes an interrupted preparation.

    [bold]Examples[/bold]

    withhold online prepare photos/ -o protector/

    withhold online prepare photos/ -o protector/ --eps 4/255 --quick-steps 8 --device cuda
    """
    settings = read_settings(OnlineSettings, "prepare", config, given)
    from withhold.online import prepare as preparing  # noqa: PLC0415 - torch stays away from --help

    with reporting(quiet) as reporter:
        prepared = preparing.prepare(source, output, settings, reporter)
    emit(as_json(asdict(prepared)) if json else as_text(prepared))


def as_text(prepared: "Prepared") -> str:
    """Sum up a preparation."""
    lines = [
        f"Prepared from {prepared.images} images in {prepared.classes} classes, in {prepared.seconds:.0f} s.",
        prepared.surrogate,
        f"Protector: {prepared.destination} (never publish it), fingerprint {prepared.fingerprint[:16]}",
    ]
    return "\n".join(line for line in lines if line)


online.command()(prepare)
online.add_typer(client)
online.add_typer(ledger)
