"""`withhold watch`."""

import json as jsons
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from withhold.cli.console import reporting
from withhold.cli.ledger import opened
from withhold.cli.options import read_settings, with_settings
from withhold.cli.output import emit
from withhold.cli.shared import AllowDifferences, Quiet
from withhold.errors import InvalidInput
from withhold.online.watch.settings import WatchSettings
from withhold.progress import Reporter

if TYPE_CHECKING:
    from withhold.online.watch.outcome import Protected, Rejected


@with_settings(WatchSettings)
def watch(
    inbox: Annotated[Path, typer.Argument(help="Folder that images arrive in, with folders in it or without.")],
    outbox: Annotated[Path, typer.Argument(help="Folder that released images appear in.")],
    *,
    protector: Annotated[Path, typer.Option(help="Protector that `online prepare` made.")],
    once: Annotated[bool, typer.Option("--once", help="End when the inbox is empty, in place of waiting.")] = False,
    ledger: Annotated[
        str | None,
        typer.Option(help="With --client: URL of another ledger than the protector's; WITHHOLD_LEDGER counts too."),
    ] = None,
    client: Annotated[str | None, typer.Option(help="Enter images in the ledger, for its client of this name.")] = None,
    device: Annotated[str | None, typer.Option(help="As the protector was prepared if absent.")] = None,
    allow_differences: AllowDifferences = False,
    config: Annotated[Path | None, typer.Option(help="TOML file whose table \\[watch] holds settings.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document for each file, a line each.")] = False,
    quiet: Quiet = False,
    **given: Any,  # noqa: ANN401 - one option per setting
) -> None:
    """Protect every image that arrives in a folder, each at once and by itself.

    A released image appears whole in OUTBOX, then its original is moved away.
    What cannot be protected is moved too, with the reason beside it. A kill
    loses no image and publishes none twice. SIGTERM or Ctrl-C ends the watch.

    [bold]Examples[/bold]

    withhold watch inbox/ outbox/ --protector protector/

    withhold watch inbox/ outbox/ --protector protector/ --speed quick --labels labels.csv --rejected rejected/

    withhold watch inbox/ outbox/ --protector protector/ --once --originals delete
    """
    settings = read_settings(WatchSettings, "watch", config, given)
    if ledger is not None and client is None:
        msg = "--ledger needs to know for whom images are entered: give --client too, or leave it out"
        raise InvalidInput(msg)
    from withhold.online.protector import Protector  # noqa: PLC0415 - torch stays away from --help
    from withhold.online.watch import run  # noqa: PLC0415
    from withhold.online.watch.accounts import Accounts  # noqa: PLC0415
    from withhold.online.watch.places import place_watch  # noqa: PLC0415

    places = place_watch(inbox, outbox, settings, [protector])
    with reporting(quiet) as reporter, stopping_on_signals(reporter) as stop:
        loaded = Protector.load(protector, device=device, allow_differences=allow_differences, reporter=reporter)
        url = ledger or os.environ.get("WITHHOLD_LEDGER")
        with nullcontext() if client is None else opened(url, protector) as entered:
            accounts = Accounts.of(entered, client, loaded) if entered and client else None
            report = run.watch(
                places,
                loaded,
                settings,
                once=once,
                stop=stop,
                tell=lambda outcome: emit(as_line(outcome) if json else as_text(outcome)),
                accounts=accounts,
                reporter=reporter,
            )
        reporter.say(f"{report.protected} images protected, {report.rejected} files rejected.")


@contextmanager
def stopping_on_signals(reporter: Reporter) -> Iterator[threading.Event]:
    """Give an event that SIGTERM and the first Ctrl-C set; a second Ctrl-C interrupts at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
            reporter.say("Finishing the images at hand; press Ctrl-C again to interrupt them.")

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def as_line(outcome: "Protected | Rejected") -> str:
    """Write what became of a file as one line of JSON, in ASCII: names of files may hold any bytes."""
    return jsons.dumps(asdict(outcome), allow_nan=False)


def as_text(outcome: "Protected | Rejected") -> str:
    """Sum up what became of a file."""
    from withhold.online.watch.arrivals import printable  # noqa: PLC0415 - NumPy stays away from --help
    from withhold.online.watch.outcome import Rejected  # noqa: PLC0415

    name = printable(outcome.name)
    if isinstance(outcome, Rejected):
        return f"{name} rejected: {outcome.problem}"
    label = outcome.label if outcome.label_was_given else f"taken for {outcome.label}"
    change = f"largest change {outcome.largest_change:g} levels, {outcome.psnr:.1f} dB"
    return f"{name} -> {printable(outcome.released)} ({label}, {outcome.speed}, {change})"
