"""Heads of face recognisers: cosines to one weight vector for each identity, and the margins that training asks for.

CosFace: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", arXiv 1801.09414, equation 4.
ArcFace: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", arXiv 1801.07698, equation 3.
The margins themselves are those of pytorch-metric-learning, imported when such a head is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from withhold.errors import InvalidInput
from withhold.networks.classifier import Classifier, Margin, no_margin
from withhold.networks.head import classification_layer
from withhold.seeds import derive_seed

LOSSES: Mapping[str, tuple[str, float]] = {"cosface": ("CosFaceLoss", 0.35), "arcface": ("ArcFaceLoss", 28.6)}
"""Margin heads: name -> class in pytorch-metric-learning and its margin, in its unit; both are the papers' values."""

HEADS = ("softmax", *LOSSES)
"""Heads by name; `softmax` is a plain linear layer, trained without a margin."""

SCALE = 32.0
"""Factor on cosines, so that a softmax of them can be sure of itself."""

INNERMOST = 1e-6
"""Cosines are kept this far from -1 and 1, where the angle of ArcFace has no finite derivative."""


@dataclass(frozen=True, slots=True)
class CosineMargin:
    """Lower the logit of an image's own class by changing its cosine.

    Attributes:
        scale: Of the logits: logit = scale * cosine.
        change: Maps the cosines of own classes to smaller ones, elementwise.
    """

    scale: float
    change: Callable[[Tensor], Tensor]

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return logits (b, k) as the loss sees them.

        Args:
            labels: (b,), int64; or shares (b, k), where each logit is changed in proportion to its class's share.
        """
        if labels.ndim > 1:
            return logits + labels * (self._changed(logits) - logits)
        own = labels[:, None]
        return logits.scatter(1, own, self._changed(logits.gather(1, own)))

    def _changed(self, logits: Tensor) -> Tensor:
        cosines = (logits / self.scale).clamp(-1 + INNERMOST, 1 - INNERMOST)
        return self.change(cosines) * self.scale


@fx.wrap
def cosines(embeddings: Tensor, weights: Tensor) -> Tensor:
    """Return the cosines (b, k) of embeddings (b, d) to weights (k, d), at the weights' precision.

    Automatic mixed precision would round them to three digits, which the scale makes large. Tracing takes this as one
    step, since it depends on the device.
    """
    with torch.autocast(weights.device.type, enabled=False):
        return F.linear(F.normalize(embeddings.to(weights.dtype)), F.normalize(weights))


class MarginHead(nn.Linear):
    """Logits = scale * cosine of an embedding to each class's weights, in [-scale, scale]; no bias.

    The margin is no part of it: it depends on the label, so it belongs to the loss.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = SCALE) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        """Map embeddings (b, in_features) of any length to logits (b, out_features)."""
        return self.scale * cosines(input, self.weight)


def margin_of(head: str, scale: float = SCALE) -> Margin:
    """Return the margin of a head by name.

    Raises:
        InvalidInput: Unknown name, or pytorch-metric-learning is not installed.
    """
    if head == "softmax":
        return no_margin
    if head not in LOSSES:
        msg = f"unknown head {head!r}; expected one of {', '.join(HEADS)}."
        raise InvalidInput(msg)
    try:
        from pytorch_metric_learning import losses  # noqa: PLC0415
    except ImportError as error:
        msg = (
            f"head {head!r} needs pytorch-metric-learning ({error}). Install it with: pip install 'withhold[faces]'. "
            "Head 'softmax' needs nothing more."
        )
        raise InvalidInput(msg) from error
    name, margin = LOSSES[head]
    # The loss brings class weights of its own, drawn at random; only what it does to a cosine is used.
    with torch.random.fork_rng(devices=[]):
        loss: Any = getattr(losses, name)(num_classes=2, embedding_size=2, margin=margin, scale=scale)
    loss.collect_stats = False
    return CosineMargin(scale, loss.modify_cosine_of_target_classes)


def add_head(network: Classifier, head: str, *, classes: int | None = None, seed: int = 0) -> None:
    """Replace the classification layer by a new one with random weights, and set `network.margin` to fit.

    Args:
        head: One of `HEADS`.
        classes: Number that the network is to distinguish from now on; if absent as many as before.
        seed: Of the new layer's weights. The global random state is left as it was.

    Raises:
        InvalidInput: Unknown head, pytorch-metric-learning is not installed, or the network has no such layer.
    """
    margin = margin_of(head)
    name, old = classification_layer(network)
    count = classes or network.classes
    kind: type[nn.Linear] = nn.Linear if head == "softmax" else MarginHead
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "initial head"))
        new = kind(old.in_features, count).to(old.weight)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new.train(old.training))
    network.classes, network.head, network.margin, network.ready = count, head, margin, False
