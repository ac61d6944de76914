"""`withhold show`."""

from pathlib import Path
from typing import Annotated

import typer

from withhold.cli.output import emit
from withhold.cli.shared import Source
from withhold.data.pixels import parse_eps


def show(
    source: Source,
    released: Annotated[list[Path], typer.Argument(help="Protected datasets made from it; each gets its columns.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")],
    name: Annotated[
        list[str] | None, typer.Option(help="Image to show, such as cat/001.jpg; may be given often.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Images to sample if none is named.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    magnify: Annotated[float, typer.Option(help="Factor on the difference; no change is mid grey.")] = 10,
    eps: Annotated[
        str | None, typer.Option(help="Strengths at which to craft the images anew, as 4/255,8/255,16/255.")
    ] = None,
) -> None:
    """Draw images before and after: the original, the released, and the difference magnified.

    [bold]Examples[/bold]

    withhold show photos/ released/ -o before-after.png

    withhold show photos/ released/ -o cats.png --name cat/001.jpg --name cat/002.jpg

    withhold show photos/ released/ -o strengths.png --count 3 --eps 4/255,8/255,16/255
    """
    strengths = [parse_eps(text) for text in eps.split(",")] if eps else []
    from withhold.release.show import show as run  # noqa: PLC0415 - not needed for --help

    written = run(source, released, output, names=name or (), count=count, seed=seed, magnify=magnify, eps=strengths)
    emit(str(written))
