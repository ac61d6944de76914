"""Layers whose forward-mode derivative PyTorch cannot differentiate again, or does so wrongly, as plain formulas.

PyTorch's forward mode of layer norm and instance norm holds the saved mean and deviation constant, so that a reverse
pass through it misses their part; its forward mode of the gated linear unit has no derivative at all. Seen with 2.13;
the test of every common layer against double backward tells when this file is no longer needed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def layer_norm(  # noqa: PLR0917 - the signature of torch.layer_norm
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,  # noqa: ARG001 - part of torch.layer_norm
) -> Tensor:
    """Compute `torch.nn.functional.layer_norm` step by step."""
    scaled = _standardised(input, tuple(range(-len(normalized_shape), 0)), eps)
    scaled = scaled if weight is None else scaled * weight
    return scaled if bias is None else scaled + bias


def instance_norm(  # noqa: PLR0917 - the signature of torch.instance_norm
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,  # noqa: ARG001 - part of torch.instance_norm
) -> Tensor:
    """Compute `torch.nn.functional.instance_norm` step by step; kept statistics make it an affine map already."""
    if not use_input_stats:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    shape = (1, -1, *(1,) * (input.ndim - 2))
    scaled = _standardised(input, tuple(range(2, input.ndim)), eps)
    scaled = scaled if weight is None else scaled * weight.view(shape)
    return scaled if bias is None else scaled + bias.view(shape)


def gated_linear_unit(input: Tensor, dim: int = -1) -> Tensor:
    """Compute `torch.nn.functional.glu` step by step."""
    kept, gate = input.chunk(2, dim)
    return kept * gate.sigmoid()


def _standardised(values: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = values - values.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)


REPLACED: Mapping[Callable[..., Any], Callable[..., Tensor]] = {
    F.layer_norm: layer_norm,
    torch.layer_norm: layer_norm,
    F.instance_norm: instance_norm,
    torch.instance_norm: instance_norm,
    F.glu: gated_linear_unit,
}


class PlainFormulas(TorchFunctionMode):
    """While active, computes the layers above by their formulas.

    As any such mode does, it also keeps PyTorch's attention layers off their fused path, which has no forward mode.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call the formula in place of the layer, or the function itself."""
        formula: Callable[..., Any] = REPLACED.get(func, func)
        return formula(*args, **(kwargs or {}))
