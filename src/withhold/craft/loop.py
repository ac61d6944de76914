"""Crafting: the algorithm of arXiv 2103.02683 on one screen."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from withhold.craft.augment import Augmentation, Unchanged
from withhold.craft.ball import Linf
from withhold.craft.objectives import Objective
from withhold.craft.penalties import Penalties, Penalty
from withhold.craft.steps import Rule, Start, signed_gradient, uniform_start
from withhold.errors import InvalidInput


def craft(
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " v"],
    objective: Objective,
    *,
    ball: Linf,
    step_sizes: Sequence[float],
    generator: torch.Generator,
    rule: Rule = signed_gradient,
    start: Start = uniform_start,
    augment: Augmentation | None = None,
    penalty: Penalty | None = None,
    region: Bool[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """Perturb a batch by projected descent on an objective (arXiv 2103.02683, section 3).

    Args:
        images: x, pixels in [0, 1].
        labels: y, class indices of the views: one for each image, or for each of its faces (`AlignedFaces`).
        objective: Holds the surrogate, which is only read.
        ball: Largest change; the valid range is always kept as well.
        step_sizes: One for each step, as fractions of the pixel range.
        generator: On the CPU; every draw comes from it, so equal seeds give equal results.
        rule: How a slope becomes a step.
        start: Where in the ball to begin.
        augment: Views redrawn at each step; none if absent.
        penalty: Lowered beside the objective, on the perturbation itself; none if absent.
        region: Where images may change at all; everywhere if absent.

    Returns:
        delta, inside the ball at every pixel; `images + delta` is the protected batch.

    Raises:
        InvalidInput: Images outside [0, 1] or not finite, labels of another length, or no steps.
    """
    augment, penalty = augment or Unchanged(), penalty or Penalties()
    _check(images, labels, step_sizes, augment)
    bounds = ball.bounds(images, region)
    delta = start(bounds, generator)
    update = rule()
    for step_size in step_sizes:
        delta.requires_grad_()
        inputs = augment(images + delta, generator)
        slope_of_inputs = objective.slope(inputs.detach(), labels)
        (slope,) = torch.autograd.grad(inputs, delta, slope_of_inputs)
        slope = slope + penalty.slope(images, delta.detach())
        delta = bounds.project(delta.detach() - step_size * update(slope))
    return delta


def best_of(
    craft_once: Callable[[torch.Generator], Float[Tensor, "b c h w"]],
    losses: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, " b"]],
    generators: Sequence[torch.Generator],
) -> Float[Tensor, "b c h w"]:
    """Craft once for each generator and keep the perturbation of lowest loss, image by image.

    Args:
        craft_once: `craft` with everything given but the generator.
        losses: Loss of each image under a perturbation.
        generators: One for each restart, differently seeded.

    Raises:
        InvalidInput: No generator was given.
    """
    if not generators:
        msg = "restarts need at least one generator; got none"
        raise InvalidInput(msg)
    best_delta = craft_once(generators[0])
    best_losses = losses(best_delta)
    for generator in generators[1:]:
        delta = craft_once(generator)
        delta_losses = losses(delta)
        better = delta_losses < best_losses
        best_losses = torch.where(better, delta_losses, best_losses)
        best_delta = torch.where(better[:, None, None, None], delta, best_delta)
    return best_delta


def _check(images: Tensor, labels: Tensor, step_sizes: Sequence[float], augment: Augmentation) -> None:
    if not (images.is_floating_point() and images.ndim == 4):  # noqa: PLR2004 - batch, channels, height, width
        msg = f"images are a float tensor (b, c, h, w) in [0, 1]; got {images.dtype} of shape {tuple(images.shape)}"
        raise InvalidInput(msg)
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        msg = f"pixels lie in [0, 1]; got values from {low.item():g} to {high.item():g}; scale them"
        raise InvalidInput(msg)
    views = len(augment.plain(images))
    if labels.shape != (views,):
        msg = f"one label belongs to each image, or each face: expected shape ({views},), got {tuple(labels.shape)}"
        raise InvalidInput(msg)
    if not step_sizes:
        msg = "crafting takes at least one step; got an empty sequence of step sizes"
        raise InvalidInput(msg)
