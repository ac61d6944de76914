"""The alignment gradient: how exact, and how dear in units of a plain input gradient. Prints JSON.

    python benchmarks/gradient.py                      # ResNet-9, ResNet-18 and a small ViT on this machine
    python benchmarks/gradient.py --threads 1 --batch 64

Costs are medians over interleaved repetitions in one process, so a change of the machine's speed hits all alike.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.craft import Alignment, ClassTargeted, fold_batch_norm, mean_direction
from withhold.craft.alignment import Direction, directional_slope, gradient, slope_by_double_backward
from withhold.networks.table import build

NETWORKS = ("resnet9", "resnet18", "vit")


def batch_of(count: int, side: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Draw images and labels; speed and exactness do not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, side, side, generator=generator, dtype=torch.float64).to(dtype)
    return images.contiguous(memory_format=torch.channels_last), torch.randint(0, 10, (count,), generator=generator)


def lived_in(name: str) -> nn.Module:
    """Build a network whose batch norms have seen data, so that no layer is trivial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(name, 10, input_size=32)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(batch_of(64, 32)[0])
    return network.eval()


def exactness(name: str, count: int) -> dict[str, Any]:
    """Compare the short cut with double backward: values in float64, signs in float32."""
    result: dict[str, Any] = {}
    for dtype in (torch.float64, torch.float32):
        network = lived_in(name).to(dtype)
        images, labels = batch_of(count, 32, dtype)
        tangent: Direction = mean_direction(network, [(images, labels)])
        short = directional_slope(network, images, labels, tangent)[1]
        long = slope_by_double_backward(network, images, labels, tangent)
        result[f"largest_relative_difference_{str(dtype)[6:]}"] = ((short - long).abs().max() / long.abs().max()).item()
        result[f"equal_signs_{str(dtype)[6:]}"] = (short.sign() == long.sign()).double().mean().item()
        folded = fold_batch_norm(network)
        parts = dict(zip(map(id, network.parameters()), tangent, strict=True))
        refolded = tuple(parts[id(parameter)] for parameter in folded.parameters())
        short = directional_slope(folded, images, labels, refolded)[1]
        result[f"equal_signs_folded_{str(dtype)[6:]}"] = (short.sign() == long.sign()).double().mean().item()
    return result


def cost(name: str, count: int, repetitions: int) -> dict[str, Any]:
    """Time one gradient of each kind."""
    network, (images, labels) = lived_in(name), batch_of(count, 32)
    folded = fold_batch_norm(network)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    tangent, folded_tangent = (mean_direction(net, [(images, labels)]) for net in (network, folded))

    def plain() -> Tensor:
        inputs = images.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(network(inputs), labels), inputs)[0]

    kinds: dict[str, Callable[[], object]] = {
        "input_gradient": plain,
        "class_targeted": lambda: ClassTargeted(folded).slope(images, labels),
        "weight_gradient": lambda: gradient(folded, images, labels),
        "alignment_gradient_unfolded": lambda: directional_slope(network, images, labels, tangent),
        "alignment_gradient": lambda: directional_slope(folded, images, labels, folded_tangent),
        "alignment_step_joint": lambda: Alignment(folded, folded_tangent).slope(images, labels),
        "double_backward": lambda: slope_by_double_backward(network, images, labels, tangent),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for repetition in range(repetitions + 1):
        for kind, run in kinds.items():
            began = time.perf_counter()
            run()
            if repetition:  # the first round warms up
                seconds[kind].append(time.perf_counter() - began)
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    return {
        "batch": count,
        "seconds": {kind: round(value, 4) for kind, value in medians.items()},
        "input_gradients": {kind: round(value / medians["input_gradient"], 2) for kind, value in medians.items()},
    }


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    document = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {args.threads} threads",
        "torch": torch.__version__,
        "exactness": {name: exactness(name, 16) for name in args.networks},
        "cost": {name: cost(name, args.batch, args.repetitions) for name in args.networks},
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
