"""Batch norm of a frozen network folded into the convolution before it: the same function, with less to compute."""

from typing import cast

import torch
from torch import Tensor, fx, nn

from withhold.craft.objectives import frozen


class FoldedConvolution(nn.Module):
    """A convolution and the batch norm after it, in evaluation mode, as one convolution.

    The two layers keep their parameters, so gradients still reach the weights that a trainer would change.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (b, c, h, w) like the convolution followed by the norm."""
        convolution, norm = self.convolution, self.norm
        # `_foldable` has checked that the norm keeps running statistics.
        mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        bias = norm.bias - mean * scale
        if convolution.bias is not None:
            bias = bias + convolution.bias * scale
        weight = convolution.weight * scale[:, None, None, None]
        outputs: Tensor = convolution._conv_forward(inputs, weight, bias)  # keeps stride, padding mode and groups
        return outputs


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return the same function of the same parameters with batch norms folded into convolutions where possible.

    A network that cannot be traced symbolically (its path depends on the data) is returned as it is.

    Raises:
        InvalidInput: The network is not in evaluation mode; batch norm is affine only there.
    """
    frozen(network)
    try:
        folded = fx.symbolic_trace(network)
    except Exception:  # tracing runs the user's code, which may raise anything; folding is optional
        return network
    layers = dict(folded.named_modules())
    for node in list(folded.graph.nodes):
        convolution = _foldable(node, layers)
        if convolution is None:
            continue
        name = f"folded_{node.name}"
        folded.add_module(name, FoldedConvolution(convolution, cast("nn.BatchNorm2d", layers[node.target])))
        node.args[0].target = name
        node.replace_all_uses_with(node.args[0])
        folded.graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded.eval()


def _foldable(node: fx.Node, layers: dict[str, nn.Module]) -> nn.Conv2d | None:
    """Return the convolution that feeds this batch norm and nothing else, if there is one."""
    if node.op != "call_module" or not isinstance(layers[str(node.target)], nn.BatchNorm2d):
        return None
    norm, before = cast("nn.BatchNorm2d", layers[str(node.target)]), node.args[0]
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
        return None
    convolution = layers.get(str(before.target))
    if not isinstance(convolution, nn.Conv2d) or not (norm.affine and norm.track_running_stats):
        return None
    return convolution
