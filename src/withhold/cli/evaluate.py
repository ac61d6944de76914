"""`withhold evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from withhold.cli.console import reporting
from withhold.cli.options import read_settings, with_settings
from withhold.cli.output import emit
from withhold.cli.shared import Json, Quiet, Source
from withhold.evaluation.settings import EvaluateSettings

if TYPE_CHECKING:
    from withhold.evaluation.results import Evaluation, Spread


@with_settings(EvaluateSettings)
def evaluate(
    source: Source,
    released: Annotated[Path, typer.Argument(help="The protected dataset made from it.")],
    *,
    test: Annotated[Path, typer.Option(help="Clean images of the same classes that are in neither.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report, which must stay private.")],
    clean: Annotated[
        Path | None, typer.Option(help="Clean images that competitors own; drawn from the originals if absent.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file whose table \\[evaluate] holds settings.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    **given: Any,  # noqa: ANN401 - one option per setting
) -> None:
    """Measure what a competitor would get from a release: train on it in every known way, test on clean images.

    OUTPUT/index.html says it in words and curves. The same command goes on after an interruption and trains only what
    is missing; so does one that asks for more seeds, networks or countermeasures.

    [bold]Examples[/bold]

    withhold evaluate photos/ released/ --test test-photos/ -o report/

    withhold evaluate photos/ released/ --test test-photos/ -o report/ --suite full --seeds 3 --recipe reference

    withhold evaluate photos/ released/ --test test-photos/ -o report/ --countermeasures none --countermeasures jpeg-10
    """
    settings = read_settings(EvaluateSettings, "evaluate", config, given)
    from withhold.evaluation import run  # noqa: PLC0415 - torch stays away from --help
    from withhold.evaluation.report.tables import as_json  # noqa: PLC0415

    with reporting(quiet) as reporter:
        result = run.evaluate(source, released, test, output, settings, clean=clean, reporter=reporter)
    emit(as_json(result).decode() if json else as_text(result, output))


def as_text(evaluation: "Evaluation", output: Path) -> str:
    """Sum up an evaluation: every attempt, then the verdict."""

    def share(spread: "Spread | None") -> str:
        if spread is None:
            return "diverged"
        deviation = "" if spread.deviation is None else f" +- {100 * spread.deviation:.1f}"
        return f"{100 * spread.mean:.1f}{deviation} %"

    rows = [("trained on", "countermeasure", "network", "last epoch", "best epoch")]
    rows += [(a.material, a.countermeasure, a.network, share(a.last), share(a.best)) for a in evaluation.attempts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    verdict = evaluation.verdict
    return "\n".join([*lines, "", verdict.sentence, *verdict.caveats, "", f"Report: {output / 'index.html'}"])
