"""`withhold protect`."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from withhold.cli.console import reporting
from withhold.cli.options import read_settings, with_settings
from withhold.cli.output import as_json, emit
from withhold.cli.shared import AllowDifferences, Json, Quiet, SourcePlace
from withhold.data.place import Place, place_of
from withhold.errors import InvalidInput
from withhold.online.settings import DEFAULT_SPEED, SpeedName, check_free
from withhold.progress import Reporter
from withhold.release.engines.options import EngineName, EngineOptions
from withhold.release.settings import ProtectSettings

if TYPE_CHECKING:
    from withhold.release.dry_run import Estimate
    from withhold.release.run import ProtectReport


@with_settings(ProtectSettings)
def protect(
    source: SourcePlace,
    destination: Annotated[
        str, typer.Argument(help="Where the protected dataset goes, a path or a URL; it appears when it is whole.")
    ],
    *,
    config: Annotated[Path | None, typer.Option(help="TOML file whose table \\[protect] holds settings.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with an estimate of time and disk; write nothing.")
    ] = False,
    protector: Annotated[
        Path | None,
        typer.Option(help="Protector that `online prepare` made, to protect each image as it would be alone."),
    ] = None,
    speed: Annotated[
        SpeedName | None,
        typer.Option(help=f"With --protector: how an image is crafted. [dim]\\[default: {DEFAULT_SPEED}][/dim]"),
    ] = None,
    allow_differences: AllowDifferences = False,
    private: Annotated[
        Path | None,
        typer.Option(
            help="With a URL as DESTINATION: the private folder, on this disk. "
            "[dim]\\[default: BUCKET-FOLDER.withhold in the current folder][/dim]"
        ),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Craft on this machine, or on a Ray cluster.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="With --engine ray: HOST:PORT of the cluster's head, or auto; absent, one is started here."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="With --engine ray: processes that craft; as many as fit if absent.")
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option(help="With --engine ray: GPUs of each worker; may be a fraction.")
    ] = 0.0,
    progress: Annotated[
        Literal["auto", "json"], typer.Option(help="What stderr gets: bars or sentences, or JSON lines for programs.")
    ] = "auto",
    json: Json = False,
    quiet: Quiet = False,
    **given: Any,  # noqa: ANN401 - one option per setting
) -> None:
    """Protect a labelled image dataset: the same layout comes back, with images that cannot usefully be trained on.

    What must stay private goes to DESTINATION.withhold beside it, or for a URL to a folder on this disk (--private).
    The same command resumes an interrupted run.

    [bold]Examples[/bold]

    withhold protect photos/ released/

    withhold protect photos/ released/ --eps 4/255 --steps 100 --device cuda

    withhold protect faces/ released/ --task faces --head cosface

    withhold protect album/ released/ --task faces --faces faces.csv

    withhold protect train.parquet released/ --config withhold.toml --dry-run

    withhold protect photos/ released/ --protector protector/ --speed quick

    withhold protect photos/ released/ --device cuda:0,cuda:1

    withhold protect s3://bucket/photos s3://bucket/released --private private/

    withhold protect photos/ released/ --engine ray --address auto --workers 32 --gpus-per-worker 1
    """
    settings = read_settings(ProtectSettings, "protect", config, given)
    places = place_of(source), place_of(destination)
    if protector is None and (speed is not None or allow_differences):
        option = "--allow-differences" if speed is None else "--speed"
        msg = f"{option} is for a protector: give --protector too, or leave it out"
        raise InvalidInput(msg)
    options = EngineOptions(engine, address, workers, gpus_per_worker)
    if engine != "local" and (dry_run or protector is not None):
        msg = f"{'a dry run' if dry_run else 'a protector'} works on this machine only; leave out --engine"
        raise InvalidInput(msg)
    if protector is not None:
        check_free(settings)
    with reporting(quiet, lines=progress == "json") as reporter, contextlib.ExitStack() as stack:
        if protector is None:
            way, settings = _on_its_own(options, settings, places, reporter, stack)
        else:
            way = _by_protector(protector, speed or DEFAULT_SPEED, settings, allow_differences, reporter)
        result: ProtectReport | Estimate
        if dry_run:
            result = way.plan(*places, settings=settings, reporter=reporter, private=private)
            text = estimate_text(result)
        else:
            result = way.protect(*places, settings=settings, reporter=reporter, private=private)
            text = report_text(result)
    emit(as_json(asdict(result)) if json else text)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a dataset is protected, and how that is planned."""

    protect: "Callable[..., ProtectReport]"
    plan: "Callable[..., Estimate]"


def _on_its_own(
    options: EngineOptions,
    settings: ProtectSettings,
    places: tuple[Place, Place],
    reporter: Reporter,
    stack: contextlib.ExitStack,
) -> tuple[_Way, ProtectSettings]:
    """Train or take a surrogate, and craft against it.

    Raises:
        InvalidInput: The engine is not there, or cannot do what is asked for.
    """
    from withhold.release import dry_run, run  # noqa: PLC0415 - torch stays away from --help
    from withhold.release.engines.choose import opened  # noqa: PLC0415

    engine, settings = stack.enter_context(opened(options, settings, places, reporter))
    return _Way(partial(run.protect, engine=engine), dry_run.dry_run), settings


def _by_protector(
    folder: Path, speed: SpeedName, settings: ProtectSettings, allow_differences: bool, reporter: Reporter
) -> _Way:
    """Let a protector craft each image as if it were alone.

    Raises:
        InvalidInput: The protector cannot be loaded.
    """
    from withhold.online.offline import dry_run_with, protect_with  # noqa: PLC0415 - torch stays away from --help
    from withhold.online.protector import Protector  # noqa: PLC0415

    device = settings.device if "device" in settings.model_fields_set else None
    loaded = Protector.load(folder, device=device, allow_differences=allow_differences, reporter=reporter)
    return _Way(
        partial(protect_with, protector=loaded, speed=speed), partial(dry_run_with, protector=loaded, speed=speed)
    )


def report_text(report: "ProtectReport") -> str:
    """Sum up a run."""
    quality, verified = report.quality, report.verification
    again = (
        "" if report.crafted == report.images else f" ({report.images - report.crafted} of them by an earlier start)"
    )
    lines = [f"{report.images} images in {report.classes} classes protected{again}, in {report.seconds:.0f} s."]
    if quality.psnr is not None and quality.ssim is not None:
        lines.append(f"Mean PSNR {quality.psnr:.1f} dB, SSIM {quality.ssim:.3f}.")
    change = f"largest change {verified.largest_change:g} levels, allowed {verified.bound}"
    lines.append(f"Verified: {verified.checked} images, {change}.")
    if verified.unchanged:
        lines.append(f"{len(verified.unchanged)} of them show no face and are released unchanged.")
    lines += left_out(report)
    lines += [f"Release: {report.destination}", f"Private: {report.sidecar} (never publish it)"]
    return "\n".join(lines)


def estimate_text(estimate: "Estimate") -> str:
    """Sum up what a run would do."""
    batches = f"{estimate.batches} batches of up to {estimate.largest_batch}"
    lines = [f"{estimate.images} images in {estimate.classes} classes ({estimate.layout}), in {batches}."]
    if estimate.training_seconds is not None:
        lines.append(f"Training the surrogate: about {duration(estimate.training_seconds)}.")
    lines.append(f"Crafting: about {duration(estimate.crafting_seconds)}.")
    release, disk = (f"{size / 1e6:,.1f} MB" for size in (estimate.release_bytes, estimate.disk_bytes))
    lines.append(f"Release: about {release}; the run needs about {disk} of disk at a time.")
    lines += left_out(estimate)
    lines.append(f"Nothing was written. The release would appear at {estimate.destination}.")
    return "\n".join(lines)


def left_out(result: "ProtectReport | Estimate") -> list[str]:
    """Name every file of the source that is not released, with the reason."""
    lines = [f"Left out as unreadable: {name}" for name in result.skipped]
    return lines + [f"Not an image of the dataset, and not released: {name}" for name in result.ignored]


def duration(seconds: float) -> str:
    """Write a duration for people.

    >>> duration(0.4), duration(75), duration(9000)
    ('1 s', '1 min 15 s', '2 h 30 min')
    """
    whole = math.ceil(seconds)
    hours, minutes = divmod(round(whole / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"  # noqa: PLR2004 - a minute
