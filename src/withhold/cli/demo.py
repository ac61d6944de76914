"""`withhold demo`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from withhold.cli.console import reporting
from withhold.cli.output import as_json, emit
from withhold.cli.shared import Json, Quiet
from withhold.demo import SIZE, Size

if TYPE_CHECKING:
    from withhold.demo.run import Demonstration


def demo(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the images and the result.")] = Path(
        "demo"
    ),
    data: Annotated[
        Path | None, typer.Option(help="Dataset with train and test splits, such as the CIFAR-10 python batches.")
    ] = None,
    images: Annotated[int, typer.Option(min=2, help="Training images per class.")] = SIZE.images,
    epochs: Annotated[int, typer.Option(min=1, help="Training epochs, of surrogate and competitor.")] = SIZE.epochs,
    steps: Annotated[int, typer.Option(min=1, help="Crafting steps per image.")] = SIZE.steps,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Protect a real image set and measure what a competitor's model learns from it.

    Without --data it needs no download: its images are patches of photographs that come inside scikit-image.

    [bold]Examples[/bold]

    withhold demo

    withhold demo --data cifar-10-batches-py/ --images 500
    """
    from withhold.demo.run import demonstrate  # noqa: PLC0415 - torch stays away from --help

    size = Size(images, SIZE.test_images, epochs, steps)
    with reporting(quiet) as reporter:
        result = demonstrate(output, data, size, seed=seed, reporter=reporter)
    emit(as_json(asdict(result)) if json else as_table(result))


def as_table(result: "Demonstration") -> str:
    """Lay the measurement out for reading."""
    chosen = result.settings
    verified = "every image within the bound" if not result.offenders else f"{result.offenders} OFFENDERS"
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    measured = {
        "the original images": result.from_original,
        "random noise of the same size": result.from_noise,
        "the released images": result.from_released,
        "  the same, stopped at the best epoch": result.best_from_released,
        f"(guessing among {result.classes} classes)": result.chance,
    }
    lines = [
        f"What a competitor's model gets right of {result.test_images} clean test images, after training on",
        "",
        *(f"  {what:<38}{share:7.1%}" for what, share in measured.items()),
        "",
        f"Data      {result.data}: {result.train_images} training images in {result.classes} classes",
        f"Settings  eps {chosen['eps']}, {chosen['objective']}, {chosen['steps']} steps, {chosen['epochs']} epochs, "
        f"seed {chosen['seed']}",
        f"Verified  {result.checked} images, largest change {result.largest_change:g} levels: {verified}",
        f"Release   {result.released}",
        f"Picture   {result.picture}",
        f"Report    {result.report}",
        f"Time      {sum(result.seconds.values()):.0f} s on {result.threads} threads ({parts})",
    ]
    return "\n".join(lines)
