"""`withhold verify`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from withhold.cli.console import reporting
from withhold.cli.output import as_json, emit
from withhold.cli.shared import Json, Quiet, SourcePlace
from withhold.data.pixels import parse_eps

if TYPE_CHECKING:
    from withhold.release.verify import Verification

FOUND_OFFENDERS = 1

SAID = {"argument": "--eps", "release.json": "release.json", "default": "the default"}


def verify(
    source: SourcePlace,
    released: Annotated[str, typer.Argument(help="The protected dataset made from it; a path or a URL.")],
    *,
    eps: Annotated[str | None, typer.Option(help="Bound to check; what release.json states if absent.")] = None,
    splits: Annotated[
        list[str] | None, typer.Option(help="Split of the source that was released; may be given often; all if absent.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check a release against its source, from the files alone.

    Names, labels, order, sizes, modes and the bound on every pixel are checked, and every offender is named.

    [bold]Examples[/bold]

    withhold verify photos/ released/

    withhold verify photos/ released/ --eps 8/255 --json
    """
    bound = None if eps is None else parse_eps(eps)
    from withhold.release.verify import verify as run  # noqa: PLC0415 - not needed for --help

    with reporting(quiet) as reporter:
        verification = run(source, released, eps=bound, splits=splits or (), reporter=reporter)
    emit(as_json({"passed": verification.passed, **asdict(verification)}) if json else as_text(verification))
    if not verification.passed:
        raise typer.Exit(FOUND_OFFENDERS)


def as_text(verification: "Verification") -> str:
    """Sum up a verification, and name every offender."""
    bound = f"{verification.bound} levels (eps {verification.eps} from {SAID[verification.bound_from]})"
    lines = [
        f"{verification.checked} images compared with their originals; largest change {verification.largest_change:g}, "
        f"allowed {bound}."
    ]
    if verification.bound_is_doubtful:
        lines.append(
            f"Warning: the bound {verification.eps} was taken from the release itself; give --eps to check "
            f"against your own."
        )
    if verification.skipped:
        lines.append(f"{len(verification.skipped)} unreadable in the source and not released:")
        lines += [f"  {name}" for name in verification.skipped]
    if verification.unchanged:
        lines.append(f"{len(verification.unchanged)} unchanged:")
        lines += [f"  {name}" for name in verification.unchanged]
    lines += [f"{offender.name}: {offender.problem}" for offender in verification.offenders]
    count = len(verification.offenders)
    lines.append(f"FAILED: {count} {'offender' if count == 1 else 'offenders'}." if count else "PASSED.")
    return "\n".join(lines)
