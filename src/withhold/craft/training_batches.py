"""Batches crafted while a network trains on them: for adversarial training and for min-min surrogates.

Adversarial training (Madry et al., arXiv 1706.06083) perturbs each batch to raise the loss of the network in training,
the min-min game of Huang et al. (arXiv 2101.04898) to lower it. The two differ in the objective only.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from withhold.craft.ball import Linf
from withhold.craft.loop import craft
from withhold.craft.objectives import Objective


@runtime_checkable
class Batches(Protocol):
    """What a network is trained on: labelled images, batch by batch."""

    classes: int

    def __len__(self) -> int:
        """Count the images of one epoch."""
        ...

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (b, c, h, w), float in [0, 1], and labels (b,), int64; draw from the generator only."""
        ...


class CraftedData:
    """Training data whose every batch is first perturbed against the network as it stands at that step.

    Perturbations are crafted anew for each batch, from a uniform start. The network is read in evaluation mode, on its
    device; it keeps its parameters, their gradients and its mode.

    Args:
        data: The batches to perturb; their labels are class indices.
        network: The network in training: images (b, c, h, w) in [0, 1] to logits (b, classes).
        objective: Makes what is minimised, such as the class `ErrorMaximising` or `ErrorMinimising`.
        ball: Largest change.
        step_sizes: One for each crafting step, as fractions of the pixel range.
    """

    def __init__(
        self,
        data: Batches,
        network: nn.Module,
        objective: Callable[[nn.Module], Objective],
        ball: Linf,
        step_sizes: Sequence[float],
    ) -> None:
        self._data = data
        self._network = network
        self._objective = objective
        self._ball = ball
        self._step_sizes = tuple(step_sizes)
        self.classes = data.classes

    def __len__(self) -> int:
        """Count the images of one epoch."""
        return len(self._data)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of the wrapped data, perturbed, on the network's device."""
        for images, labels in self._data.epoch(batch_size, generator):
            yield self._perturbed(images, labels, generator)

    def _perturbed(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = next(self._network.parameters()).device
        images, labels = images.to(device), labels.to(device)
        with evaluating(self._network):
            delta = craft(
                images,
                labels,
                self._objective(self._network),
                ball=self._ball,
                step_sizes=self._step_sizes,
                generator=generator,
            )
        return images + delta, labels


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network into evaluation mode, and each of its layers back into the mode it had."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield network
    finally:
        for layer, mode in modes:
            layer.training = mode
