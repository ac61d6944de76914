"""Gradient alignment: the direction of the reverse cross-entropy and the exact gradient of one cosine.

Fowl et al., "Preventing Unauthorized Use of Proprietary Data: Poisoning for Secure Dataset Release", arXiv 2103.02683.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from withhold.craft.forward_mode import PlainFormulas
from withhold.craft.objectives import Margin, frozen, no_margin
from withhold.errors import InvalidInput

Direction = tuple[Tensor, ...]
"""One tensor per parameter of a network, in the order of `network.parameters()`."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (b, classes) and labels (b,) to losses (b,)."""


def cross_entropy(logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return -log p_y, the loss that a competitor's training lowers."""
    return F.cross_entropy(logits, labels, reduction="none")


def reverse_cross_entropy(logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return -log(1 - p_y), the loss whose descent unlearns the label (arXiv 2103.02683).

    Its gradient in the logits is p_y / (1 - p_y) * (onehot(y) - p): a confidently right image keeps a weight near one,
    where negated cross-entropy would fade. The difference of two logsumexp stays exact where 1 - p_y would round to 0.

    >>> reverse_cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item()  # -log(1/2)
    0.6931471824645996
    """
    others = logits.masked_fill(F.one_hot(labels, logits.shape[1]).bool(), -torch.inf)
    return logits.logsumexp(1) - others.logsumexp(1)


def with_margin(loss: Loss, margin: Margin) -> Loss:
    """Return a loss of logits as they are after a margin: CosFace and ArcFace are `with_margin(cross_entropy, ...)`."""

    def marginal(logits: Tensor, labels: Tensor) -> Tensor:
        return loss(margin(logits, labels), labels)

    return marginal


def inner(left: Direction, right: Direction) -> Tensor:
    """Return the inner product over all parameters concatenated."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()


def length(direction: Direction) -> Tensor:
    """Return the Euclidean norm over all parameters concatenated, kept above 0 so that one may divide by it."""
    # An image that the network knows perfectly has no gradient at all; its slope is then 0 rather than not a number.
    return inner(direction, direction).sqrt().clamp_min(torch.finfo(direction[0].dtype).tiny ** 0.5)


def gradient(network: nn.Module, inputs: Tensor, labels: Tensor, loss: Loss = cross_entropy) -> Direction:
    """Return the gradient of the batch's mean loss in the parameters."""
    parameters = [parameter.detach().requires_grad_() for parameter in network.parameters()]
    logits = functional_call(network, _named(network, parameters), (inputs.detach(),))
    return torch.autograd.grad(loss(logits, labels).mean(), parameters, allow_unused=True, materialize_grads=True)


def mean_direction(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss = reverse_cross_entropy
) -> Direction:
    """Return the unit gradient of the mean loss over clean images: t of docs/method.md, constant while crafting.

    Args:
        network: Surrogate in evaluation mode.
        batches: Inputs (b, c, h, w) in [0, 1] with labels (b,); any number of batches of any size.
        loss: Reverse cross-entropy in the paper; of a recogniser trained by a margin loss, with its margin.

    Raises:
        InvalidInput: No batch was given, or the gradient vanishes or is not finite.
    """
    frozen(network)
    total = tuple(torch.zeros_like(parameter) for parameter in network.parameters())
    for inputs, labels in batches:
        for summed, part in zip(total, gradient(network, inputs, labels, loss), strict=True):
            summed.add_(part, alpha=len(inputs))
    norm = inner(total, total).sqrt()
    if not (norm > 0 and norm.isfinite()):
        msg = f"the direction needs images with a finite gradient above 0; its norm is {norm.item()}; check the weights"
        raise InvalidInput(msg)
    return tuple(part / norm for part in total)


def directional_rates(
    network: nn.Module,
    inputs: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    tangent: Direction,
    loss: Loss = cross_entropy,
) -> Float[Tensor, " b"]:
    """Return <grad_w F_j, tangent>, the derivative of each image's loss along the tangent, by forward mode."""

    def losses(parameters: dict[str, Tensor]) -> Tensor:
        return loss(functional_call(network, parameters, (inputs,)), labels)

    weights = _named(network, [parameter.detach() for parameter in network.parameters()])
    # Fused attention has no forward-mode derivative; the plain formula has all of them.
    with sdpa_kernel(SDPBackend.MATH), PlainFormulas():
        rates: Tensor = jvp(losses, (weights,), (_named(network, tangent),))[1]
    return rates


def directional_slope(
    network: nn.Module,
    inputs: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    tangent: Direction,
    loss: Loss = cross_entropy,
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b c h w"]]:
    """Differentiate <grad_w loss, tangent> in the pixels: forward mode over the weights, then one reverse pass.

    For a constant tangent, <grad_w F(w), tangent> is the derivative of F along the tangent, so forward mode yields it
    without building the weight gradient; one reverse pass then equals double backward exactly (docs/method.md).

    Returns:
        <grad_w F_j, tangent> of each image j, and the gradient of their mean in the inputs.
    """
    inputs = inputs.detach().requires_grad_()
    rates = directional_rates(network, inputs, labels, tangent, loss)
    (slope,) = torch.autograd.grad(rates.mean(), inputs)
    return rates.detach(), slope


def slope_by_double_backward(
    network: nn.Module,
    inputs: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    tangent: Direction,
    loss: Loss = cross_entropy,
) -> Float[Tensor, "b c h w"]:
    """Differentiate <grad_w loss, tangent> in the pixels the long way: the reference for `directional_slope`."""
    inputs = inputs.detach().requires_grad_()
    parameters = [parameter.detach().requires_grad_() for parameter in network.parameters()]
    with sdpa_kernel(SDPBackend.MATH):
        mean = loss(functional_call(network, _named(network, parameters), (inputs,)), labels).mean()
        training_gradient = torch.autograd.grad(mean, parameters, create_graph=True)
        (slope,) = torch.autograd.grad(training_gradient, inputs, tangent)
    return slope


@dataclass(frozen=True, eq=False)
class Alignment:
    """1 - cos(g, t): training on the image is to move the network along the direction t (arXiv 2103.02683).

    g is the gradient of the batch's mean training loss, the cross-entropy of the logits after the margin; the cosine is
    one over all parameters concatenated, those of the classification layer included.

    Attributes:
        network: Surrogate in evaluation mode: images (b, c, h, w) in [0, 1] to logits (b, classes).
        direction: t, one unit vector over all parameters; see `mean_direction`.
        joint: One cosine for the whole batch. False crafts each image alone by <t, g_j>, the paper's online form:
            by Proposition 1 the sign of the step is the same wherever the norm of g changes slowly.
        margin: Of the loss that the network was trained by.
    """

    network: nn.Module
    direction: Direction
    joint: bool = True
    margin: Margin = field(default=no_margin, kw_only=True)

    def __post_init__(self) -> None:
        frozen(self.network)
        shapes = [tuple(part.shape) for part in self.direction]
        expected = [tuple(parameter.shape) for parameter in self.network.parameters()]
        if shapes != expected:
            msg = (
                f"a direction has one tensor for each of the network's {len(expected)} parameters, in their shapes; "
                f"got {len(shapes)} tensors; take it from mean_direction(network, ...) of the same network"
            )
            raise InvalidInput(msg)

    def slope(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of 1 - cos (joint) or of -<t, g> (decoupled)."""
        tangent = self._cosine_tangent(inputs, labels) if self.joint else self.direction
        return -directional_slope(self.network, inputs, labels, tangent, self._training_loss)[1]

    def losses(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return 1 - <t, g_j> / |g| for each image j; their mean is the batch's 1 - cos."""
        loss = self._training_loss
        norm = length(gradient(self.network, inputs, labels, loss))
        with torch.no_grad():
            return 1 - directional_rates(self.network, inputs, labels, self.direction, loss) / norm

    def sign_agreement(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> float:
        """Return the share of channel values on which joint and decoupled crafting step the same way."""
        joint = replace(self, joint=True).slope(inputs, labels)
        decoupled = replace(self, joint=False).slope(inputs, labels)
        return (joint.sign() == decoupled.sign()).float().mean().item()

    @property
    def _training_loss(self) -> Loss:
        return with_margin(cross_entropy, self.margin)

    def _cosine_tangent(self, inputs: Tensor, labels: Tensor) -> Direction:
        """Return v with d cos = d<g, v> at this g: v = t / |g| - cos * g / |g|^2, held constant."""
        g = gradient(self.network, inputs, labels, self._training_loss)
        norm = length(g)
        cosine = inner(g, self.direction) / norm
        return tuple(t / norm - cosine * part / norm**2 for t, part in zip(self.direction, g, strict=True))


def _named(network: nn.Module, values: Iterable[Tensor]) -> dict[str, Tensor]:
    return dict(zip((name for name, _ in network.named_parameters()), values, strict=True))
