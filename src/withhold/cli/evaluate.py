"""`withhold evaluate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from withhold.cli.console import reporting
from withhold.cli.options import other_task, read_settings, read_table, with_settings
from withhold.cli.output import emit
from withhold.cli.shared import Json, Quiet, Source
from withhold.errors import InvalidInput
from withhold.evaluation.faces.settings import FaceSettings
from withhold.evaluation.settings import EvaluateSettings, SharedSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from withhold.evaluation.faces.results import FaceAttempt, FaceEvaluation
    from withhold.evaluation.results import Evaluation, Spread

MODELS: tuple[type[SharedSettings], ...] = (EvaluateSettings, FaceSettings)
FACES = "Faces (--task faces)"


@with_settings(*MODELS)
def evaluate(
    source: Source,
    released: Annotated[Path, typer.Argument(help="The protected dataset made from it.")],
    *,
    test: Annotated[Path, typer.Option(help="Clean images of the same classes that are in neither.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report, which must stay private.")],
    clean: Annotated[
        Path | None, typer.Option(help="Clean images that competitors own; drawn from the originals if absent.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="CSV of pairs of people outside the originals: same, image_a, image_b.", rich_help_panel=FACES
        ),
    ] = None,
    others: Annotated[
        Path | None,
        typer.Option(help="Clean pictures of other people; half of the people if absent.", rich_help_panel=FACES),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            help="A recogniser trained elsewhere: module:function, a weights file of ours, .onnx to score.",
            rich_help_panel=FACES,
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Another release of the same originals, for the sheet of pictures.", rich_help_panel=FACES),
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

    withhold evaluate faces/ released/ --task faces --test test-faces/ --pairs pairs.csv -o report/
    """
    model = _model(given, config)
    _refuse({"clean": clean}, EvaluateSettings, model)
    _refuse({"pairs": pairs, "others": others, "extractor": extractor, "also": also or None}, FaceSettings, model)
    settings = read_settings(model, "evaluate", config, given, [other for other in MODELS if other is not model])
    # Imported here: torch stays away from --help.
    from withhold.evaluation import run  # noqa: PLC0415
    from withhold.evaluation.faces import run as faces  # noqa: PLC0415
    from withhold.evaluation.faces.report import tables as face_tables  # noqa: PLC0415
    from withhold.evaluation.report import tables  # noqa: PLC0415

    data = (source, released, test, output)
    with reporting(quiet) as reporter:
        if isinstance(settings, FaceSettings):
            found = faces.evaluate_faces(
                *data, settings, pairs=pairs, others=others, extractor=extractor, also=also or (), reporter=reporter
            )
            text = face_tables.as_json(found).decode() if json else faces_as_text(found, output)
        else:
            assert isinstance(settings, EvaluateSettings)
            result = run.evaluate(*data, settings, clean=clean, reporter=reporter)
            text = tables.as_json(result).decode() if json else as_text(result, output)
    emit(text)


def _model(given: Mapping[str, Any], config: Path | None) -> type[SharedSettings]:
    """Find the settings of the task that the command line names, or else the configuration file."""
    known = [name for model in MODELS for name in model.model_fields]
    stored = {} if config is None else read_table(config, "evaluate", known)
    task = given["task"] or stored.get("task", EvaluateSettings.model_fields["task"].default)
    for model in MODELS:
        if model.model_fields["task"].default == task:
            return model
    tasks = ", ".join(str(model.model_fields["task"].default) for model in MODELS)
    msg = f"task in {config}: expected one of {tasks}, got {task!r}"
    raise InvalidInput(msg)


def _refuse(options: Mapping[str, Any], needed: type[SharedSettings], model: type[SharedSettings]) -> None:
    """Refuse options of another task."""
    for name, value in options.items():
        if value is not None and needed is not model:
            raise InvalidInput(other_task(f"--{name}", needed, model))


def as_text(evaluation: "Evaluation", output: Path) -> str:
    """Sum up an evaluation: every attempt, then the verdict."""
    rows = [("trained on", "countermeasure", "network", "last epoch", "best epoch")]
    rows += [(a.material, a.countermeasure, a.network, _share(a.last), _share(a.best)) for a in evaluation.attempts]
    verdict = evaluation.verdict
    return "\n".join([*_columns(rows), "", verdict.sentence, *verdict.caveats, "", f"Report: {output / 'index.html'}"])


def faces_as_text(evaluation: "FaceEvaluation", output: Path) -> str:
    """Sum up an evaluation of faces: every attempt, then the verdict, scenario by scenario."""
    header = ("scenario", "published", "head", "rank-1", "rank-5", "head, best", "originals enrolled", "LFW")
    rows = [header, *(_face_row(attempt) for attempt in evaluation.attempts)]
    verdict = evaluation.verdict
    findings = [f"{finding.scenario}: {finding.sentence}" for finding in verdict.findings]
    report = f"Report: {output / 'index.html'}"
    return "\n".join([*_columns(rows), "", verdict.sentence, "", *findings, "", *verdict.caveats, "", report])


def _face_row(attempt: "FaceAttempt") -> tuple[str, ...]:
    measures = (attempt.rank1, attempt.rank5, attempt.best_head, attempt.clean_rank1, attempt.accuracy)
    missing = "diverged" if attempt.diverged else "-"
    return (attempt.scenario, attempt.material, attempt.head, *(_share(value, missing) for value in measures))


def _share(spread: "Spread | None", missing: str = "diverged") -> str:
    if spread is None:
        return missing
    deviation = "" if spread.deviation is None else f" +- {100 * spread.deviation:.1f}"
    return f"{100 * spread.mean:.1f}{deviation} %"


def _columns(rows: "Sequence[Sequence[str]]") -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
