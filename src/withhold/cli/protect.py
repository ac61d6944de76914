"""`withhold protect`."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from withhold.cli.console import reporting
from withhold.cli.options import read_settings, with_settings
from withhold.cli.output import as_json, emit
from withhold.cli.shared import Json, Quiet, Source
from withhold.release.settings import ProtectSettings

if TYPE_CHECKING:
    from withhold.release.dry_run import Estimate
    from withhold.release.run import ProtectReport


@with_settings(ProtectSettings)
def protect(
    source: Source,
    destination: Annotated[Path, typer.Argument(help="Where the protected dataset goes; it appears when it is whole.")],
    *,
    config: Annotated[Path | None, typer.Option(help="TOML file whose table \\[protect] holds settings.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with an estimate of time and disk; write nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    **given: Any,  # noqa: ANN401 - one option per setting
) -> None:
    """Protect a labelled image dataset: the same layout comes back, with images that cannot usefully be trained on.

    What must stay private goes to DESTINATION.withhold beside it. The same command resumes an interrupted run.

    [bold]Examples[/bold]

    withhold protect photos/ released/

    withhold protect photos/ released/ --eps 4/255 --steps 100 --device cuda

    withhold protect faces/ released/ --task faces --head cosface

    withhold protect album/ released/ --task faces --faces faces.csv

    withhold protect train.parquet released/ --config withhold.toml --dry-run
    """
    settings = read_settings(ProtectSettings, "protect", config, given)
    from withhold.release import dry_run as planning  # noqa: PLC0415 - torch stays away from --help
    from withhold.release import run  # noqa: PLC0415

    with reporting(quiet) as reporter:
        result: ProtectReport | Estimate
        if dry_run:
            result = planning.dry_run(source, destination, settings, reporter=reporter)
            text = estimate_text(result)
        else:
            result = run.protect(source, destination, settings, reporter=reporter)
            text = report_text(result)
    emit(as_json(asdict(result)) if json else text)


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
