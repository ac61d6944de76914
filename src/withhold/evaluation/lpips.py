"""LPIPS, the learnt distance between two pictures, version 0.1 on AlexNet, with weights from a file the user has."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.networks.normalise import Normalise

# The constants of the reference implementation: they shift and scale pixels in [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10

# (index in torchvision's `features`, channels in, channels out, kernel, stride, padding), and whether pooling precedes.
LAYERS = (
    (0, 3, 64, 11, 4, 2, False),
    (3, 64, 192, 5, 1, 2, True),
    (6, 192, 384, 3, 1, 1, True),
    (8, 384, 256, 3, 1, 1, False),
    (10, 256, 256, 3, 1, 1, False),
)

# The package's own state dict calls the same layers `net.slice1.0`, ..., `net.slice5.10`.
PACKAGE_NAME = re.compile(r"^net\.slice\d\.(\d+)\.(weight|bias)$")
SHOWN = 4


class Lpips(nn.Module):
    """Learnt perceptual image patch similarity (Zhang et al., arXiv 1801.03924).

    Both pictures pass AlexNet. After each of its five convolutions with ReLU the features of a place are scaled to
    length 1; their squared differences are weighted by channel, averaged over places, and added up over the layers.

    A new one has random weights and measures nothing; `load` reads those of the paper.
    """

    smallest: ClassVar[int] = 31
    """Least height and width, in pixels, that the pooling layers leave anything of."""

    def __init__(self) -> None:
        super().__init__()
        # (2 x - 1 - shift) / scale, as one normalisation of pixels in [0, 1].
        mean = [(1 + shift) / 2 for shift in SHIFT]
        self.normalise = Normalise(mean, [scale / 2 for scale in SCALE])
        self.features = nn.ModuleList(
            nn.Conv2d(inward, outward, kernel, stride, padding)
            for _, inward, outward, kernel, stride, padding, _ in LAYERS
        )
        self.linear = nn.ModuleList(nn.Conv2d(layer[2], 1, 1, bias=False) for layer in LAYERS)
        self.eval().requires_grad_(requires_grad=False)

    @staticmethod
    def load(path: Path) -> "Lpips":
        """Read weights from a safetensors file or a state dict; no code in it is run, and nothing is downloaded.

        Raises:
            InvalidInput: The file is missing or holds something else; the message names what is expected.
        """
        state = _named_as_torchvision(_read(path))
        expected = _expected()
        wrong = [name for name, shape in expected.items() if name not in state or tuple(state[name].shape) != shape]
        if wrong:
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            msg = f"{path} lacks {', '.join(wrong[:SHOWN])}{more}, or holds them in another shape. {_remedy()}"
            raise InvalidInput(msg)
        network = Lpips()
        for number, (index, *_) in enumerate(LAYERS):
            convolution, linear = network.features[number], network.linear[number]
            convolution.load_state_dict({kind: state[f"features.{index}.{kind}"] for kind in ("weight", "bias")})
            linear.load_state_dict({"weight": state[f"lin{number}.model.1.weight"]})
        return network

    @torch.inference_mode()
    def forward(self, before: Float[Tensor, "b c h w"], after: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Measure the distance of pictures in [0, 1] with one or three channels; 0 is alike."""
        one, other = self.normalise(before), self.normalise(after)
        total = torch.zeros(len(before), device=one.device)
        for layer, convolution, linear in zip(LAYERS, self.features, self.linear, strict=True):
            one, other = (_step(features, convolution, pooled=layer[-1]) for features in (one, other))
            total += linear((_directions(one) - _directions(other)) ** 2).mean(dim=(1, 2, 3))
        return total


def _step(features: Tensor, convolution: nn.Module, *, pooled: bool) -> Tensor:
    if pooled:
        features = nn.functional.max_pool2d(features, kernel_size=3, stride=2)
    return torch.relu(convolution(features))


def _directions(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + EPSILON)


def _expected() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for index, inward, outward, kernel, *_ in LAYERS:
        shapes[f"features.{index}.weight"] = (outward, inward, kernel, kernel)
        shapes[f"features.{index}.bias"] = (outward,)
    for number, layer in enumerate(LAYERS):
        shapes[f"lin{number}.model.1.weight"] = (1, layer[2], 1, 1)
    return shapes


def _named_as_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {PACKAGE_NAME.sub(r"features.\1.\2", name): value for name, value in state.items()}


def _remedy() -> str:
    indices = ", ".join(str(layer[0]) for layer in LAYERS)
    return (
        "Expected are the weights of LPIPS 0.1 on AlexNet: features.N.weight and features.N.bias of torchvision's "
        f"AlexNet for N of {indices}, and lin0.model.1.weight to lin{len(LAYERS) - 1}.model.1.weight. Where the "
        "package lpips is installed, torch.save(lpips.LPIPS(net='alex').state_dict(), path) writes such a file."
    )


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        msg = f"there is no weights file {path}. {_remedy()}"
        raise InvalidInput(msg)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        msg = f"{path} is not a plain file of weights: it is damaged, or holds code, which is never run. {_remedy()}"
        raise InvalidInput(msg) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        msg = f"{path} must hold tensors by name. {_remedy()}"
        raise InvalidInput(msg)
    return state
