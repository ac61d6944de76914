from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.craft.alignment import directional_slope, mean_direction, slope_by_double_backward
from withhold.craft.forward_mode import PlainFormulas, gated_linear_unit, instance_norm, layer_norm


class OverChannels(nn.Module):
    """Applies a layer to the last dimension, where channels are put."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.layer(x.permute(0, 2, 3, 1))
        return mapped.permute(0, 3, 1, 2)


class OverTokens(nn.Module):
    """Applies an attention layer to the pixels as tokens."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        attends = isinstance(self.layer, nn.MultiheadAttention)
        mixed: Tensor = self.layer(tokens, tokens, tokens, need_weights=False)[0] if attends else self.layer(tokens)
        return mixed


ACTIVATIONS: list[Callable[[], nn.Module]] = [
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Sigmoid, nn.Tanh),
    *(nn.Softplus, nn.PReLU, nn.ReLU6, nn.Softsign, nn.Hardtanh, nn.LogSigmoid, nn.Softmax2d),
]
LAYERS: dict[str, Callable[[], nn.Module]] = {layer.__name__: layer for layer in ACTIVATIONS} | {
    "GELU by tanh": lambda: nn.GELU("tanh"),
    "GLU": lambda: nn.GLU(1),
    "LayerNorm": lambda: OverChannels(nn.LayerNorm(8)),
    "RMSNorm": lambda: OverChannels(nn.RMSNorm(8)),
    "GroupNorm": lambda: nn.GroupNorm(2, 8),
    "InstanceNorm": lambda: nn.InstanceNorm2d(8, affine=True),
    "InstanceNorm with statistics": lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    "BatchNorm": lambda: nn.BatchNorm2d(8),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(3),
    "AvgPool": lambda: nn.AvgPool2d(2),
    "MaxPool": lambda: nn.MaxPool2d(2),
    "AdaptiveMaxPool": lambda: nn.AdaptiveMaxPool2d(4),
    "AdaptiveAvgPool": lambda: nn.AdaptiveAvgPool2d(3),
    "depthwise convolution": lambda: nn.Conv2d(8, 8, 3, groups=8),
    "circular convolution": lambda: nn.Conv2d(8, 8, 3, dilation=2, padding=2, padding_mode="circular"),
    "transposed convolution": lambda: nn.ConvTranspose2d(8, 8, 3),
    "Upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "PixelShuffle": lambda: nn.PixelShuffle(2),
    "MultiheadAttention": lambda: OverTokens(nn.MultiheadAttention(8, 2, batch_first=True)),
    "TransformerEncoderLayer": lambda: OverTokens(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_short_cut_is_exact_through_every_common_layer(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        front = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), LAYERS[name](), nn.Flatten()).double().eval()
        images, labels = torch.rand(4, 3, 8, 8).double(), torch.tensor([0, 1, 2, 3])
        head = nn.Linear(front(images).shape[1], 4).double()
        for parameter in front.parameters():  # norms start at 1 and 0, where mistakes can hide
            nn.init.normal_(parameter, std=0.5)
    network = nn.Sequential(front, head).eval()
    direction = mean_direction(network, [(images, labels)])
    slope = directional_slope(network, images, labels, direction)[1]
    reference = slope_by_double_backward(network, images, labels, direction)
    assert (slope - reference).abs().max() <= 1e-9 * reference.abs().max()


def test_formulas_equal_the_layers_that_they_stand_for(generator: torch.Generator) -> None:
    x = torch.randn(3, 4, 5, 6, generator=generator).double()
    weight, bias = torch.randn(2, 5, 6, generator=generator).double()
    assert torch.allclose(layer_norm(x, (5, 6), weight, bias, 0.1), F.layer_norm(x, (5, 6), weight, bias, 0.1))
    assert torch.allclose(layer_norm(x, (6,)), F.layer_norm(x, (6,)))
    gain, offset = torch.randn(2, 4, generator=generator).double()
    assert torch.allclose(instance_norm(x, weight=gain, bias=offset), F.instance_norm(x, weight=gain, bias=offset))
    mean, variance = torch.randn(4).double(), torch.rand(4).double()
    kept = {"running_mean": mean, "running_var": variance, "use_input_stats": False}
    assert torch.allclose(instance_norm(x, **kept), F.instance_norm(x, **kept))  # type: ignore[arg-type]
    assert torch.allclose(gated_linear_unit(x, 1), F.glu(x, 1))


def test_formulas_are_used_only_while_the_mode_is_active() -> None:
    x = torch.randn(2, 8, requires_grad=True)
    with PlainFormulas():
        inside = F.layer_norm(x, (8,))
    assert "LayerNorm" not in type(inside.grad_fn).__name__
    assert "LayerNorm" in type(F.layer_norm(x, (8,)).grad_fn).__name__
