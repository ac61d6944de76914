"""Training a generator once, so that its perturbations lower what crafting lowers."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from withhold.craft import Objective
from withhold.craft.augment import Augmentation
from withhold.errors import InvalidInput
from withhold.networks.recipe import triangle
from withhold.networks.training import as_unit, finite_loss, reproducible
from withhold.online.generator import Generator
from withhold.seeds import derive_seed

FEW, MANY, IMAGES_SEEN = 1, 60, 60_000
"""Fewest and most epochs, and the images that training sees in between."""


@dataclass(frozen=True, slots=True)
class GeneratorRecipe:
    """How a generator is trained: Adam, with a learning rate that rises linearly, then falls linearly to 0.

    Attributes:
        lr: Peak of the learning rate.
        warmup: Share of all steps in which it rises.
    """

    epochs: int
    batch_size: int = 64
    lr: float = 2e-3
    warmup: float = 0.2

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, in [0, steps), as a share of the peak."""
        return triangle(step, steps, self.warmup)


def generator_recipe(images: int, epochs: int | None = None) -> GeneratorRecipe:
    """Pick the recipe for a set of this many images; small sets get more epochs.

    >>> generator_recipe(10_000).epochs, generator_recipe(100).epochs, generator_recipe(10_000, epochs=1).epochs
    (6, 60, 1)
    """
    return GeneratorRecipe(epochs or min(MANY, max(FEW, math.ceil(IMAGES_SEEN / max(1, images)))))


def train_generator(
    generator: Generator,
    images: Tensor,
    labels: Tensor,
    objective: Objective,
    *,
    views: Augmentation,
    recipe: GeneratorRecipe,
    seed: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train a generator in place to lower an objective at random views of images and its perturbations of them.

    The gradient that reaches the generator is the objective's slope at the view, pulled back through view and sum; so
    any objective will do, whether or not its own value can be differentiated further.

    Args:
        generator: On the objective's device; it ends in evaluation mode.
        images: (n, 3, side, side), uint8, as the surrogate sees them.
        labels: (n,), int64.
        views: As crafting draws them.
        seed: Of every draw. The global random state is left as it was.

    Returns:
        The objective's mean over the last batch of each epoch, after the step.

    Raises:
        InvalidInput: There are no images.
        Diverged: The objective is no longer finite.
    """
    if not len(images):
        msg = "a generator is trained on images; got none"
        raise InvalidInput(msg)
    device = next(generator.parameters()).device
    batches = math.ceil(len(images) / recipe.batch_size)
    optimizer = torch.optim.Adam(generator.parameters(), recipe.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate(step, recipe.epochs * batches))
    draws = torch.Generator().manual_seed(derive_seed(seed, "generator"))
    history = []
    with reproducible(device, derive_seed(seed, "generator")):
        for epoch in range(1, recipe.epochs + 1):
            generator.train()
            for chosen in torch.tensor_split(torch.randperm(len(images), generator=draws), batches):
                mirrored = torch.rand(len(chosen), generator=draws) < 0.5  # noqa: PLR2004 - a fair coin
                batch = as_unit(images[chosen])
                batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
                batch = batch.to(device, memory_format=torch.channels_last)
                targets = labels[chosen].to(device)
                slopes = objective.slope(batch, targets)
                inputs = views((batch + generator(batch, slopes, targets)).clamp(0, 1), draws)
                slope = objective.slope(inputs.detach(), targets)
                optimizer.zero_grad()
                inputs.backward(slope)  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            history.append(finite_loss(objective.losses(inputs.detach(), targets).mean().item(), epoch))
            on_epoch()
    generator.eval()
    return history
