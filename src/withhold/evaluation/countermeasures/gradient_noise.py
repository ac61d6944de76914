"""Clipped and noisy gradients: what defence papers call private training without a promise of privacy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure


@dataclass(frozen=True)
class GradientNoise(Countermeasure):
    """Clip the norm of each batch's gradient and add Gaussian noise to it.

    Unlike DP-SGD it promises no privacy. Heuristic of Hong et al. (arXiv 2002.11497), for whole batches; defaults as in
    the code of Geiping et al. for "Witches' Brew" (arXiv 2009.02276).

    Attributes:
        clip: Largest l2 norm of the gradient in all parameters together.
        noise: Standard deviation of the noise in each entry, as a share of `clip`.
    """

    clip: float = 1.0
    noise: float = 0.01

    def __post_init__(self) -> None:
        if not (0 < self.clip < math.inf and 0 <= self.noise < math.inf):
            msg = f"clip must be finite and above 0, noise finite and 0 or more; got {self.clip} and {self.noise}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train by the recipe with changed gradients."""
        seed = competitor.generator("gradient noise").initial_seed()
        # Where the gradients are: drawing as many numbers as there are parameters on the CPU would hold up a GPU.
        generator = torch.Generator(competitor.device).manual_seed(seed)

        def before_step(parameters: Sequence[nn.Parameter]) -> None:
            self.disturb(parameters, generator)

        return competitor.train(competitor.views(images, labels), before_step=before_step)

    def disturb(self, parameters: Sequence[nn.Parameter], generator: torch.Generator) -> None:
        """Change the gradients of parameters in place.

        Args:
            generator: On the device of the parameters.
        """
        nn.utils.clip_grad_norm_(parameters, self.clip)
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is not None:
                noise = torch.randn(gradient.shape, generator=generator, device=gradient.device, dtype=gradient.dtype)
                gradient.add_(noise, alpha=self.clip * self.noise)
