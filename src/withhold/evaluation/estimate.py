"""How long the trainings of an evaluation will take, from a short probe of each network."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.countermeasures.table import find
from withhold.evaluation.jobs import Workers
from withhold.evaluation.results import Cell
from withhold.evaluation.training import Harness
from withhold.networks.classifier import Classifier
from withhold.networks.recipe import Recipe
from withhold.networks.table import build
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import as_unit, train

PROBED = 2
"""Batches that are timed, after one that is not."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that are left, about.

    >>> str(Estimate(42)), str(Estimate(600)), str(Estimate(9000))
    ('42 s', '10 min', '2 h 30 min')
    """

    seconds: float

    def __str__(self) -> str:
        """Write it for people."""
        if self.seconds < 60:  # noqa: PLR2004 - a minute
            return f"{math.ceil(self.seconds)} s"
        hours, minutes = divmod(math.ceil(self.seconds / 60), 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def estimate(cells: Sequence[Cell], harness: Harness, where: Workers) -> Estimate:
    """Estimate the wall time of some cells, each countermeasure at the cost it states."""
    with threads(where.threads):
        probes = {network: _probe(network, harness) for network in dict.fromkeys(cell.network for cell in cells)}
    tested = len(harness.sets.test)
    total = 0.0
    for cell in cells:
        training, testing = probes[cell.network]
        images = harness.images_of(cell)
        epochs = harness.recipe(cell.network, images).epochs
        total += epochs * (images * training * find(cell.countermeasure).cost + tested * testing)
    return Estimate(total / where.jobs)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with as many threads as one job will have: on a CPU, jobs share what there is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _probe(name: str, harness: Harness) -> tuple[float, float]:
    """Time training and testing of one image each, in seconds."""
    sets = harness.sets
    network = build(name, len(sets.classes), input_size=sets.side)
    return time_of(network, harness.recipe(name, len(sets.original)), sets.test, harness.device)


def time_of(network: Classifier, recipe: Recipe, images: Labelled, device: torch.device) -> tuple[float, float]:
    """Time training and testing of one image each, in seconds.

    Args:
        images: Some of the network's size; their labels and pixels do not matter to the time.
    """
    one_epoch = replace(recipe, epochs=1)
    some = images.take(torch.arange(recipe.batch_size * PROBED) % len(images))

    def seconds(count: int) -> float:
        part = some.take(torch.arange(count))
        began = time.perf_counter()
        train(network, TensorData(part.images, part.labels, network.classes), one_epoch, seed=0, device=device)
        return time.perf_counter() - began

    seconds(recipe.batch_size)
    training = seconds(len(some)) / len(some)
    began = time.perf_counter()
    with torch.inference_mode():
        network(as_unit(some.images).to(device)).argmax(1).cpu()
    return training, (time.perf_counter() - began) / len(some)
