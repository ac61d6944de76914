"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[Path, typer.Argument(help="The dataset: class folders, Parquet, CIFAR batches or tar shards.")]
SourcePlace = Annotated[
    str,
    typer.Argument(
        help="The dataset: class folders, Parquet, CIFAR batches or tar shards; a path, or a URL as s3://BUCKET/PHOTOS."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]
AllowDifferences = Annotated[
    bool,
    typer.Option(
        "--allow-differences",
        help="Use a protector also where PyTorch's version or the type of device is another one; images come out "
        "differently than before.",
    ),
]
