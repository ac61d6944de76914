"""What every network is here: pixels in [0, 1] go in, logits come out."""

from collections.abc import Callable, Sequence
from typing import Self

from torch import Tensor, nn

from withhold.networks.external import Body
from withhold.networks.normalise import Normalise

Margin = Callable[[Tensor, Tensor], Tensor]
"""What training does to logits (b, k) before the cross-entropy, given labels (b,) or shares of classes (b, k)."""


def no_margin(logits: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG001
    """Return the logits: training by plain cross-entropy."""
    return logits


class Classifier(nn.Module):
    """A network of pixels in [0, 1]: normalisation first, then a body, whose parameters are all there are.

    Attributes:
        architecture: Name that `build` knows, or a description of a network that was given as an object.
        input_size: Side of the square images it is meant for.
        ready: Its weights fit its classes already, so it needs no training.
        head_only: Only its classification layer is trained; see `withhold.networks.head.train_head_only`.
        head: Kind of its classification layer, one of `withhold.networks.margins.HEADS`; `add_head` changes it.
        margin: What training does to its logits before the cross-entropy; nothing unless its head has a margin.
    """

    def __init__(self, architecture: str, classes: int, input_size: int, body: Body) -> None:
        super().__init__()
        self.architecture = architecture
        self.classes = classes
        self.input_size = input_size
        self.ready = body.ready
        self.head_only = False
        self.head = "softmax"
        self.margin: Margin = no_margin
        self.mean, self.std = body.mean, body.std
        self.normalise = Normalise(body.mean, body.std)
        self.body = body.module

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, 1 or 3, h, w) in [0, 1] to logits (b, classes)."""
        logits: Tensor = self.body(self.normalise(images))
        return logits

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode or back; with `head_only` it stays in evaluation mode, or its norms would learn."""
        return super().train(mode and not self.head_only)


def wrap(
    network: nn.Module,
    classes: int,
    *,
    input_size: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """Make a `Classifier` of a network object; without mean and std it takes pixels in [0, 1] as they are."""
    body = Body(network, tuple(mean or (0.0, 0.0, 0.0)), tuple(std or (1.0, 1.0, 1.0)), input_size, ready=True)
    return Classifier(type(network).__name__, classes, input_size, body)
