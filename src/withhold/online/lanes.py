"""Crafting a fixed number of images side by side, each as if it were alone.

The last bits of a network's output depend on the size of its batch, and signed steps make much of them. So a batch
always has the same number of lanes, blank images where there are too few; and each lane draws from a generator of its
own.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from withhold import craft
from withhold.craft.augment import TEST_SHARE, Augmentation
from withhold.craft.ball import Bounds
from withhold.data.pixels import Picture
from withhold.online.generator import COLOURS, Generator, slopes_at
from withhold.online.settings import Speed
from withhold.release.batch import Batch
from withhold.release.crafter import OBJECTIVES, PENALTIES, RULES, SCHEDULES, STARTS, GradientCrafter
from withhold.seeds import derive_seed

LARGEST_AREA = 16
"""Most pixels that the generator computes, in squares of the surrogate's input: for pictures of extreme shapes."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One image.

    Attributes:
        label: What it shows, as a class index.
        seed: Of its start and its views.
    """

    picture: Picture
    label: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class OwnDraws:
    """The views of another augmentation, those of each image drawn from a generator of its own."""

    views: Augmentation
    generators: Sequence[torch.Generator]

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002 - one signature
        """Draw one random view of each image."""
        pairs = zip(torch.split(images, 1), self.generators, strict=True)
        return torch.cat([self.views(image, own) for image, own in pairs])

    def plain(self, images: Tensor) -> Tensor:
        """Return the view that a trained network is tested on."""
        return torch.cat([self.views.plain(image) for image in torch.split(images, 1)])


@dataclass(frozen=True, slots=True, eq=False)
class LaneCrafter:
    """Crafts any number of images, each with a result that depends on nothing but itself.

    Attributes:
        crafter: Surrogates and settings.
        input_size: Side of the square that the surrogates see.
        generator: In evaluation mode, on the surrogates' device.
        lanes: Images in each batch.
    """

    crafter: GradientCrafter
    input_size: int
    generator: Generator
    lanes: int

    def perturbations(self, tasks: Sequence[Task], speed: Speed) -> list[np.ndarray]:
        """Return a perturbation of each image, (c, h, w), within eps and the valid range, as fractions of the range."""
        return self._by_lanes(tasks, lambda some: self._crafted(some, speed))

    def losses(self, tasks: Sequence[Task]) -> list[float]:
        """Measure the crafting objective of each image as it is, in the view that a network is tested on."""

        def measure(some: Sequence[Task]) -> list[float]:
            batch = self._batch(some)
            inputs = self._views(batch, some).plain(batch.images)
            losses: list[float] = objective_of(self.crafter).losses(inputs, batch.labels).tolist()
            return losses

        return self._by_lanes(tasks, measure)

    def labels(self, pictures: Sequence[Picture]) -> list[int]:
        """Say what the final surrogate takes each picture for, as a class index."""

        def predict(some: Sequence[Task]) -> list[int]:
            batch = self._batch(some)
            with torch.no_grad():
                logits = self.crafter.surrogates[-1].network(self._views(batch, some).plain(batch.images))
            likeliest: list[int] = logits.argmax(1).tolist()
            return likeliest

        return self._by_lanes([Task(picture) for picture in pictures], predict)

    def _by_lanes(self, tasks: Sequence[Task], work: Callable[[Sequence[Task]], Sequence[Result]]) -> list[Result]:
        """Do work on batches of equal shape and of as many images as there are lanes; results in the order of tasks."""
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, task in enumerate(tasks):
            groups[task.picture.levels.shape].append(index)
        results: dict[int, Result] = {}
        for shape, members in groups.items():
            blank = Task(Picture(np.zeros(shape, np.uint8)))
            for first in range(0, len(members), self.lanes):
                some = members[first : first + self.lanes]
                filled = [tasks[index] for index in some] + [blank] * (self.lanes - len(some))
                results.update(zip(some, work(filled), strict=False))
        return [results[index] for index in range(len(tasks))]

    def _crafted(self, tasks: Sequence[Task], speed: Speed) -> list[np.ndarray]:
        settings, radius = self.crafter.settings, float(self.crafter.settings.eps)
        batch, ball = self._batch(tasks), craft.Linf(radius)
        # As `GradientCrafter` draws for the first of its restarts.
        draws = [torch.Generator().manual_seed(derive_seed(task.seed, "restart", 0)) for task in tasks]

        def start(bounds: Bounds, generator: torch.Generator) -> Tensor:  # noqa: ARG001 - one signature
            if speed.start == "generator":
                return bounds.project(self._generated(batch))
            lanes = zip(torch.split(bounds.lower, 1), torch.split(bounds.upper, 1), draws, strict=True)
            return torch.cat([STARTS[settings.start](Bounds(lower, upper), own) for lower, upper, own in lanes])

        if not speed.steps:
            return batch.unpad(start(ball.bounds(batch.images), torch.Generator()))
        delta = craft.craft(
            batch.images,
            batch.labels,
            objective_of(self.crafter),
            ball=ball,
            step_sizes=SCHEDULES[settings.schedule](speed.step_size * radius, speed.steps),
            generator=torch.Generator(),
            rule=RULES[settings.optimizer],
            start=start,
            augment=OwnDraws(self._augmentation(batch), draws),
            penalty=self._penalty(),
        )
        return batch.unpad(delta)

    def _batch(self, tasks: Sequence[Task]) -> Batch:
        return Batch.of([task.picture for task in tasks], [task.label for task in tasks], self.crafter.device)

    def _views(self, batch: Batch, tasks: Sequence[Task]) -> Augmentation:
        return OwnDraws(self._augmentation(batch), [torch.Generator()] * len(tasks))

    def _augmentation(self, batch: Batch) -> Augmentation:
        """Return the views of a single image of the batch."""
        crop_size = None if self._seen_whole(batch) else self.input_size
        return replace(self.crafter, crop_size=crop_size).augmentation(replace(batch, windows=batch.windows[:1]))

    def _seen_whole(self, batch: Batch) -> bool:
        return self.crafter.crop_size is None and batch.extents[0] == (self.input_size, self.input_size)

    def _penalty(self) -> craft.Penalty:
        weights = {name: getattr(self.crafter.settings, name) for name in PENALTIES}
        return craft.Penalties(tuple((weight, PENALTIES[name]) for name, weight in weights.items() if weight))

    def _generated(self, batch: Batch) -> Tensor:
        """Return the generator's output at the pictures' size, computed where surrogates see one pixel as one pixel."""
        images = batch.images.expand(-1, COLOURS, -1, -1)
        whole = self._seen_whole(batch)
        if not whole:
            images = _resized(images, seen_size(*batch.extents[0], self.input_size)).clamp(0, 1)
        slopes = slopes_at(objective_of(self.crafter), images, batch.labels, self.input_size)
        with torch.no_grad():
            delta = self.generator(images, slopes, batch.labels)
        # A mean with weights of at least 0 that sum to 1, so what is within the radius stays within it.
        delta = delta if whole else _resized(delta, batch.extents[0])
        return delta if batch.images.shape[1] == COLOURS else delta.mean(1, keepdim=True)


def objective_of(crafter: GradientCrafter) -> craft.Objective:
    """Build what is minimised; nothing in it depends on the images at hand."""
    settings, nothing = crafter.settings, (torch.empty(0), torch.empty(0))
    make = OBJECTIVES[settings.objective].objective
    members = [make(surrogate, settings, nothing) for surrogate in crafter.surrogates]
    return members[0] if len(members) == 1 else craft.Ensemble(tuple(members))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def seen_size(height: int, width: int, input_size: int) -> tuple[int, int]:
    """Give the size at which a picture's central square, as networks are tested on it, has the input's side.

    >>> seen_size(512, 1024, 112), seen_size(2, 100_000, 112)
    ((128, 256), (2, 100176))
    """
    scale, most = input_size / (TEST_SHARE * min(height, width)), LARGEST_AREA * input_size**2
    scale = min(scale, (most / (height * width)) ** 0.5)
    seen = max(1, round(height * scale)), max(1, round(width * scale))
    return min(seen[0], most // seen[1] or 1), min(seen[1], most // seen[0] or 1)
