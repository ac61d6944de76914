"""TensorClog: leave the competitor's training no gradient to follow."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from withhold.craft.alignment import (
    Direction,
    Loss,
    cross_entropy,
    directional_rates,
    directional_slope,
    gradient,
    length,
    with_margin,
)
from withhold.craft.objectives import Margin, frozen, no_margin


@dataclass(frozen=True, eq=False)
class GradientNorm:
    """|g|, the length of the training gradient: the smaller, the less an image teaches.

    g is the gradient of the batch's mean training loss in all parameters. Shen, Zhu, Ma, "TensorClog: An Imperceptible
    Poisoning Attack on Deep Neural Network Applications", IEEE Access 7 (2019).

    Attributes:
        network: Surrogate in evaluation mode: images (b, c, h, w) in [0, 1] to logits (b, classes).
        margin: Of the loss that the network was trained by.
    """

    network: nn.Module
    margin: Margin = field(default=no_margin, kw_only=True)

    def __post_init__(self) -> None:
        frozen(self.network)

    def slope(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of |g|, which is that of <g, v> with v = g / |g| held constant; 0 where g is 0."""
        return directional_slope(self.network, inputs, labels, self._unit(inputs, labels), self._training_loss)[1]

    def losses(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return <g_j, g> / |g|, the share of each image j in the batch's |g|, which is their mean."""
        unit = self._unit(inputs, labels)
        with torch.no_grad():
            return directional_rates(self.network, inputs, labels, unit, self._training_loss)

    @property
    def _training_loss(self) -> Loss:
        return with_margin(cross_entropy, self.margin)

    def _unit(self, inputs: Tensor, labels: Tensor) -> Direction:
        g = gradient(self.network, inputs, labels, self._training_loss)
        norm = length(g)
        return tuple(part / norm for part in g)
