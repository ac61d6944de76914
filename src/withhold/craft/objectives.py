"""What crafting minimises: the protocol, the first-order objective, and objectives made of others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.errors import InvalidInput


@runtime_checkable
class Objective(Protocol):
    """A loss of network inputs and labels that crafting lowers."""

    def slope(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of the batch's mean loss in the inputs."""
        ...

    def losses(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the loss of each image, without gradients."""
        ...


def frozen(network: nn.Module) -> nn.Module:
    """Return the network if it is in evaluation mode throughout; crafting reads a network and never changes it.

    Raises:
        InvalidInput: Some layer is in training mode, so dropout would draw and batch norm would learn.
    """
    training = next((name or "the network" for name, layer in network.named_modules() if layer.training), None)
    if training is not None:
        msg = f"crafting needs a network in evaluation mode, but {training} is training; call network.eval() first"
        raise InvalidInput(msg)
    return network


@dataclass(frozen=True, eq=False)
class ClassTargeted:
    """Cross-entropy towards another class: the image is to teach what `label + shift` looks like.

    First-order relative of alignment; Fowl et al., "Adversarial Examples Make Strong Poisons", arXiv 2106.10807.

    Attributes:
        network: Surrogate in evaluation mode: images (b, c, h, w) in [0, 1] to logits (b, classes).
        shift: Distance from the label to the target, modulo the number of classes.
    """

    network: nn.Module
    shift: int = 1

    def __post_init__(self) -> None:
        frozen(self.network)

    def slope(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of the mean cross-entropy towards the target classes."""
        inputs = inputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self._cross_entropy(inputs, labels).mean(), inputs)
        return slope

    @torch.no_grad()
    def losses(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return each image's cross-entropy towards its target class."""
        return self._cross_entropy(inputs, labels)

    def _cross_entropy(self, inputs: Tensor, labels: Tensor) -> Tensor:
        logits = self.network(inputs)
        return F.cross_entropy(logits, (labels + self.shift) % logits.shape[1], reduction="none")


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The mean of several objectives: one for each surrogate, or for each checkpoint of a training run."""

    members: tuple[Objective, ...]

    def slope(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Return the mean slope."""
        return torch.stack([member.slope(inputs, labels) for member in self.members]).mean(0)

    def losses(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return each image's mean loss."""
        return torch.stack([member.losses(inputs, labels) for member in self.members]).mean(0)


@dataclass(frozen=True, eq=False)
class PerClass:
    """A separate objective for the images of each class, such as alignment with the class's own direction."""

    members: Mapping[int, Objective]

    def slope(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Return each image's slope under its own class's objective."""
        slope = torch.empty_like(inputs)
        for label in sorted(set(labels.tolist())):
            chosen = labels == label
            slope[chosen] = self.members[label].slope(inputs[chosen], labels[chosen])
        return slope

    def losses(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return each image's loss under its own class's objective."""
        losses = inputs.new_empty(len(inputs))
        for label in sorted(set(labels.tolist())):
            chosen = labels == label
            losses[chosen] = self.members[label].losses(inputs[chosen], labels[chosen])
        return losses
