"""Hours and cost of protecting whole sets on GPUs, computed from a throughput; nothing here is measured.

hours = images x steps x restarts / (images x steps per second of one GPU x GPUs x efficiency) / 3600

The throughput is given, or read from the JSON of `benchmarks/throughput.py`, or, where neither is there, computed from
the arithmetic of a step and an assumed rate, which is no more than a guess; the document says which it was.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A set of images.

    Attributes:
        side: Of what the surrogate sees, in pixels.
        flops: Of one step on one image: forward and backward to the pixels (2 passes) of a ResNet-18 folded as
            `benchmarks/throughput.py` builds it.
    """

    images: int
    side: int
    flops: float


SETS = {
    "CIFAR-10": Kind(50_000, 32, 2 * 1.11e9),
    "ImageNet": Kind(1_281_167, 224, 2 * 3.63e9),
    "100 million photographs": Kind(100_000_000, 224, 2 * 3.63e9),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the computation assumes."""
    group = parser.add_argument_group("cost")
    group.add_argument("--throughput", nargs="*", default=[], metavar="SIDE=IMAGES_X_STEPS_PER_SECOND")
    group.add_argument("--crafting", type=Path, default=None, help="JSON of benchmarks/throughput.py")
    group.add_argument("--objective", default="class-targeted", help="cells of --crafting to take, the fastest of them")
    group.add_argument("--tflops", type=float, default=50.0, help="assumed rate of a GPU, where no throughput is known")
    group.add_argument("--steps", type=int, default=40)
    group.add_argument("--restarts", type=int, default=1)
    group.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    group.add_argument("--efficiency", type=float, default=0.9, help="share of its time that a GPU crafts")
    group.add_argument("--price", type=float, default=3.0, help="dollars per GPU hour")


def document(args: argparse.Namespace) -> dict[str, Any]:
    """Compute the table, with all that it rests on."""
    known = known_throughput(args)
    rows = []
    for name, kind in SETS.items():
        rate, source = known.get(kind.side, (args.tflops * 1e12 / kind.flops, f"assumed {args.tflops:g} TFLOP/s"))
        gpu_hours = kind.images * args.steps * args.restarts / (rate * args.efficiency) / 3600
        rows.append(
            {
                "set": name,
                "images": kind.images,
                "side": kind.side,
                "images_x_steps_per_second": round(rate),
                "throughput_from": source,
                "hours": {str(gpus): float(f"{gpu_hours / gpus:.3g}") for gpus in args.gpus},
                "dollars": float(f"{gpu_hours * args.price:.3g}"),
            }
        )
    return {
        "computed_not_measured": True,
        "assumptions": {
            "steps": args.steps,
            "restarts": args.restarts,
            "efficiency": args.efficiency,
            "dollars_per_gpu_hour": args.price,
            "left_out": "training the surrogate; storage; machines without GPUs; the first read and the verification",
            "scaling": "linear in GPUs: batches depend on each other in nothing, but storage must keep up",
        },
        "rows": rows,
    }


def known_throughput(args: argparse.Namespace) -> dict[int, tuple[float, str]]:
    """Give images x steps per second, and where that is from, by side."""
    given = {int(side): (float(rate), "given") for side, rate in (pair.split("=") for pair in args.throughput)}
    if args.crafting is None:
        return given
    measured = json.loads(args.crafting.read_text())
    fastest: dict[int, tuple[float, str]] = {}
    for cell in measured["cells"]:
        if cell["objective"] == args.objective and "images_x_steps_per_second" in cell:
            source = f"{args.crafting.name}: {measured['machine']}, {cell['precision']}"
            rate = (cell["images_x_steps_per_second"], source)
            fastest[cell["side"]] = max(rate, fastest.get(cell["side"], rate))
    return fastest | given
