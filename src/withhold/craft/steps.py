"""Where crafting starts and how it walks: starts, step schedules and signed update rules."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from withhold.craft.ball import Bounds

Update = Callable[[Tensor], Tensor]
"""Maps the slope of the objective to the direction to step against; may remember earlier slopes."""


@runtime_checkable
class Rule(Protocol):
    """Begins a fresh update for each crafting run, so that no state outlives it."""

    def __call__(self) -> Update:
        """Return an update that has seen nothing yet."""
        ...


@runtime_checkable
class Start(Protocol):
    """Draws the first perturbation of a run."""

    def __call__(self, bounds: Bounds, generator: torch.Generator) -> Float[Tensor, "b c h w"]:
        """Return a perturbation within the bounds."""
        ...


def uniform_start(bounds: Bounds, generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Draw every channel value uniformly between its bounds."""
    draw = torch.rand(bounds.lower.shape, generator=generator).to(bounds.lower)
    return torch.lerp(bounds.lower, bounds.upper, draw)


def normal_start(bounds: Bounds, generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Draw from a normal distribution as wide as the ball and project, as the authors' code does."""
    radius = torch.maximum(-bounds.lower, bounds.upper)
    draw = torch.randn(bounds.lower.shape, generator=generator).to(bounds.lower)
    return bounds.project(draw * radius)


def zero_start(bounds: Bounds, generator: torch.Generator) -> Float[Tensor, "b c h w"]:  # noqa: ARG001 - one signature
    """Start from the image itself."""
    return torch.zeros_like(bounds.lower)


def signed_gradient() -> Update:
    """Step by the sign of the slope: steepest descent in the l-inf norm (PGD)."""
    return torch.sign


def signed_adam(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Update:
    """Adam on the signs of the slope, as in gradient matching (Geiping et al., arXiv 2009.02276)."""
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0
    count = 0

    def update(slope: Tensor) -> Tensor:
        nonlocal first, second, count
        sign = slope.sign()
        count += 1
        first = beta1 * first + (1 - beta1) * sign
        second = beta2 * second + (1 - beta2) * sign.square()
        return (first / (1 - beta1**count)) / ((second / (1 - beta2**count)) ** 0.5 + epsilon)

    return update


def constant_steps(size: float, count: int) -> tuple[float, ...]:
    """Take `count` steps of one size.

    >>> constant_steps(0.01, 3)
    (0.01, 0.01, 0.01)
    """
    return (size,) * count


def linear_steps(size: float, count: int) -> tuple[float, ...]:
    """Shrink the step linearly from `size` towards zero.

    >>> linear_steps(1.0, 4)
    (1.0, 0.75, 0.5, 0.25)
    """
    return tuple(size * (1 - step / count) for step in range(count))


def stepwise_steps(size: float, count: int) -> tuple[float, ...]:
    """Divide the step by ten after 3/8, 5/8 and 7/8 of the run.

    >>> [round(step, 4) for step in stepwise_steps(1.0, 8)]
    [1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.001]
    """
    drops = (3 / 8, 5 / 8, 7 / 8)
    return tuple(size * 0.1 ** sum(step >= drop * count for drop in drops) for step in range(count))
