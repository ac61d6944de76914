"""Crafting throughput on an accelerator: images x steps per second and the achieved share of peak FLOP/s. Prints JSON.

    python benchmarks/throughput.py --device cuda
    python benchmarks/throughput.py --device cuda --peak-tflops float32=67 tf32=495 bfloat16=990

Every cell is one objective, one input size, one precision, eager or compiled. A cell that fails says why.
"""

import argparse
import contextlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from withhold.craft import Alignment, ClassTargeted, fold_batch_norm, mean_direction
from withhold.craft.objectives import Objective
from withhold.networks.table import build

SIZES = {32: ("resnet18", 512), 224: ("resnet18", 128)}
# A step in units of a forward pass, counting convolutions and matrix products: forward and backward to the pixels; for
# the joint alignment three in forward mode, three in its reverse pass, and three for the gradient of the weights.
PASSES = {"class-targeted": 2, "alignment": 9}
PRECISIONS = ("float32", "tf32", "bfloat16")


@contextlib.contextmanager
def precision_of(name: str, device: torch.device) -> Iterator[None]:
    """Set the arithmetic of matrix products and convolutions for a while."""
    matmul, conv = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, conv


def objective_of(name: str, network: nn.Module, images: Tensor, labels: Tensor) -> Objective:
    """Build an objective against a frozen network."""
    if name == "class-targeted":
        return ClassTargeted(network)
    return Alignment(network, mean_direction(network, [(images, labels)]))


def seconds_per_step(step: Callable[[], object], device: torch.device, repetitions: int) -> float:
    """Return the median time of a step, after three that warm up."""
    times = []
    for repetition in range(repetitions + 3):
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repetition >= 3:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def cell(objective: str, side: int, precision: str, *, compiled: bool, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one configuration."""
    device = torch.device(args.device)
    architecture, batch = SIZES[side]
    batch = args.batch or batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build(architecture, 10, input_size=side).eval()
    network = fold_batch_norm(built.to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    images = torch.rand(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,), device=device)
    target = objective_of(objective, network, images, labels)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    flops = PASSES[objective] * counter.get_total_flops()
    slope = torch.compile(target.slope) if compiled else target.slope
    with precision_of(precision, device):
        seconds = seconds_per_step(lambda: slope(images, labels), device, args.repetitions)
    result = {
        "objective": objective,
        "side": side,
        "architecture": architecture,
        "batch": batch,
        "precision": precision,
        "compiled": compiled,
        "images_x_steps_per_second": round(batch / seconds, 1),
        "tflops": round(flops / seconds / 1e12, 2),
    }
    if precision in args.peak_tflops:
        result["share_of_peak"] = round(result["tflops"] / args.peak_tflops[precision], 3)
    return result


def main() -> None:
    """Print one JSON document with every cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sides", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--eager-only", action="store_true")
    parser.add_argument("--peak-tflops", nargs="*", default=[], metavar="PRECISION=TFLOPS")
    args = parser.parse_args()
    args.peak_tflops = {name: float(value) for name, value in (pair.split("=") for pair in args.peak_tflops)}
    cells = []
    for side in args.sides:
        for objective in PASSES:
            for precision in args.precisions:
                for compiled in (False,) if args.eager_only else (False, True):
                    try:
                        cells.append(cell(objective, side, precision, compiled=compiled, args=args))
                    except Exception as error:  # one cell's failure is a result; the others go on
                        what = {"objective": objective, "side": side, "precision": precision, "compiled": compiled}
                        cells.append({**what, "error": f"{type(error).__name__}: {error}"[:300]})
    machine = torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.machine()
    print(json.dumps({"machine": machine, "torch": torch.__version__, "cells": cells}, indent=2))


if __name__ == "__main__":
    main()
