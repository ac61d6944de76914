"""What crafting minimises: the protocol, first-order objectives, and objectives made of others."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.errors import InvalidInput

Margin = Callable[[Tensor, Tensor], Tensor]
"""What a competitor's training does to logits (b, k) before the cross-entropy, given labels (b,)."""


def no_margin(logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b k"]:  # noqa: ARG001
    """Return the logits: training by plain cross-entropy."""
    return logits


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
class LossOfLogits(ABC):
    """A first-order objective: a loss of the logits, differentiated in the inputs.

    Attributes:
        network: Surrogate in evaluation mode: images (b, c, h, w) in [0, 1] to logits (b, classes).
        margin: Of the loss that the surrogate was trained by, as of CosFace and ArcFace.
    """

    network: nn.Module
    margin: Margin = field(default=no_margin, kw_only=True)

    def __post_init__(self) -> None:
        frozen(self.network)

    @abstractmethod
    def loss(self, logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the loss of each image, differentiable in the logits."""

    def cross_entropy(self, logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the surrogate's training loss if these were the labels."""
        return F.cross_entropy(self.margin(logits, labels), labels, reduction="none")

    def slope(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of the batch's mean loss in the inputs."""
        inputs = inputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.loss(self.network(inputs), labels).mean(), inputs)
        return slope

    @torch.no_grad()
    def losses(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the loss of each image, without gradients."""
        return self.loss(self.network(inputs), labels)


@dataclass(frozen=True, eq=False)
class ClassTargeted(LossOfLogits):
    """Cross-entropy towards another class: the image is to teach what `label + shift` looks like.

    First-order relative of alignment; Fowl et al., "Adversarial Examples Make Strong Poisons", arXiv 2106.10807. With a
    margin loss it is the target that has the margin, as when training on the image with that label.

    Attributes:
        shift: Distance from the label to the target, modulo the number of classes.
    """

    shift: int = 1

    def loss(self, logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the cross-entropy towards the target classes."""
        return self.cross_entropy(logits, (labels + self.shift) % logits.shape[1])


@dataclass(frozen=True, eq=False)
class ErrorMaximising(LossOfLogits):
    """Negated cross-entropy: the image is to look unlike its own class, whichever other it resembles.

    Untargeted form of `ClassTargeted`, in the same paper; also the attack inside adversarial training (Madry et al.,
    arXiv 1706.06083). The loss has no lower bound, and its gradient in the logits, onehot(y) - p, fades as 1 - p_y on
    images that the network is sure of. Signed steps use its sign only, so a small gradient costs nothing; only where
    1 - p_y underflows does an image stay where it started.
    """

    def loss(self, logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return log p_y."""
        return -self.cross_entropy(logits, labels)


@dataclass(frozen=True, eq=False)
class ErrorMinimising(LossOfLogits):
    """Cross-entropy of the true label: the image is to leave nothing to learn.

    Huang et al., "Unlearnable Examples: Making Personal Data Unexploitable", arXiv 2101.04898. As published, the
    surrogate is trained on images perturbed in the same way; see `CraftedData`.
    """

    def loss(self, logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return -log p_y."""
        return self.cross_entropy(logits, labels)


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
