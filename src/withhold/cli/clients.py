"""`withhold online client`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from withhold.cli.console import reporting
from withhold.cli.ledger import Protector, Url, opened
from withhold.cli.options import read_settings
from withhold.cli.output import as_json, emit
from withhold.cli.shared import Json, Quiet
from withhold.errors import InvalidInput
from withhold.online.ledger import ClientSettings

if TYPE_CHECKING:
    from withhold.online.ledger import Client, Ledger

FIELDS = ClientSettings.model_fields

client = typer.Typer(
    name="client",
    help="Who may use a service: names, tokens and limits.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@client.command()
def add(
    name: Annotated[str, typer.Argument(help="Of the client: letters, digits, dots, hyphens and underscores.")],
    *,
    protector: Protector = None,
    ledger: Url = None,
    images_per_day: Annotated[int | None, typer.Option(help=FIELDS["images_per_day"].description)] = None,
    pairs: Annotated[
        int | None,
        typer.Option(help=f"{FIELDS['pairs'].description} [dim]\\[default: {FIELDS['pairs'].default}][/dim]"),
    ] = None,
    no_pair_limit: Annotated[
        bool, typer.Option("--no-pair-limit", help="Any number of pairs, for a back end that has the originals anyway.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a client, and print its token: it is kept nowhere, and cannot be shown again.

    A client that was revoked gets a new token in this way; what it held still counts.

    [bold]Examples[/bold]

    withhold online client add app --protector protector/ --images-per-day 1000

    withhold online client add platform --no-pair-limit --ledger postgresql://withhold@database/withhold
    """
    if no_pair_limit and pairs is not None:
        msg = f"--no-pair-limit and --pairs {pairs} contradict each other; leave one out"
        raise InvalidInput(msg)
    settings = read_settings(ClientSettings, "client", None, {"images_per_day": images_per_day, "pairs": pairs})
    if no_pair_limit:
        settings = settings.model_copy(update={"pairs": None})
    with opened(ledger, protector) as found, reporting(quiet) as reporter:
        token = found.add_client(name, **settings.model_dump())
        reporter.say(f"Made the client {name} in {found.url}: {limits(settings)}. This is its token; keep it now:")
    emit(as_json({"name": name, "token": token, **settings.model_dump()}) if json else token)


@client.command("list")
def list_clients(*, protector: Protector = None, ledger: Url = None, json: Json = False) -> None:
    """List the clients, with their limits and what they have had.

    [bold]Examples[/bold]

    withhold online client list --protector protector/
    """
    with opened(ledger, protector) as found:
        known = [described(found, each) for each in found.clients()]
    emit(as_json({"clients": known}) if json else as_table(known))


@client.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Of the client.")],
    *,
    protector: Protector = None,
    ledger: Url = None,
    quiet: Quiet = False,
) -> None:
    """Let a client's token be worth nothing from now on; what it had stays in the ledger.

    [bold]Examples[/bold]

    withhold online client revoke app --protector protector/
    """
    with opened(ledger, protector) as found, reporting(quiet) as reporter:
        found.revoke_client(name)
        reporter.say(f"Revoked the token of {name} in {found.url}.")


def described(found: "Ledger", each: "Client") -> dict[str, Any]:
    """Say everything about a client in what JSON knows."""
    usage = found.usage(each)
    return {
        "name": each.name,
        "images_today": usage.images_today,
        "images_per_day": usage.images_per_day,
        "pairs": usage.pairs,
        "pairs_limit": usage.pairs_limit,
        "created": each.created.isoformat(timespec="seconds"),
        "revoked": None if each.revoked is None else each.revoked.isoformat(timespec="seconds"),
    }


def as_table(known: Sequence[dict[str, Any]]) -> str:
    """Set clients out in columns."""
    if not known:
        return "There is no client yet; make one with `withhold online client add`."
    lines = [("name", "images today", "pairs", "created", "revoked")]
    lines += [
        (
            str(each["name"]),
            f"{each['images_today']} of {_or_none(each['images_per_day'])}",
            f"{each['pairs']} of {_or_none(each['pairs_limit'])}",
            str(each["created"]),
            str(each["revoked"] or ""),
        )
        for each in known
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def limits(settings: ClientSettings) -> str:
    """Say what a client may have."""
    quota = "no quota" if settings.images_per_day is None else f"{settings.images_per_day} images per day (UTC)"
    pairs = "any number of pairs" if settings.pairs is None else f"at most {settings.pairs} pairs of a protector"
    return f"{quota}, {pairs}"


def _or_none(limit: int | None) -> str:
    return "any" if limit is None else str(limit)
