"""Protectors whose networks were never trained: equal bytes, bounds and refusals do not depend on what they know."""

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from withhold.networks.checkpoint import encode
from withhold.networks.table import build
from withhold.online.folder import DIRECTIONS, GENERATOR, KEY, SURROGATE, Document, write_folder
from withhold.online.generator import Generator, Shape
from withhold.online.loading import encode_directions, frozen, processor
from withhold.online.settings import OnlineSettings
from withhold.release.crafter import EVERY_CLASS, Reference
from withhold.version import __version__

CLASSES = ("cat", "dog", "owl")
SIDE = 16
SECRET = b"5a" * 32
NETWORK = "tests.online.protectors:network"


def network(classes: int) -> nn.Module:
    """Build a surrogate that takes random pixels for different classes."""
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, classes, bias=False),
    )
    with torch.no_grad():
        usual = layers[:-1].eval()(torch.full((1, 3, SIDE, SIDE), 0.5))
        layers[-1].weight -= layers[-1].weight @ usual.T @ usual / usual.square().sum()
    return layers


def tiny(
    folder: Path,
    *,
    lanes: int = 1,
    crop_size: int | None = None,
    key: bytes = SECRET,
    generator_weights: float = 1.0,
    **chosen: Any,  # noqa: ANN401
) -> Path:
    """Write a protector with a small generator and an untrained surrogate."""
    small = {"architecture": NETWORK, "steps": 3, "step_size": 0.5, "quick_steps": 2}
    settings = OnlineSettings.model_validate({**small, **chosen})
    shape = Shape(len(CLASSES), float(settings.eps), width=4, blocks=1)
    torch_state = generator(shape, generator_weights).state_dict()
    network = build(str(settings.architecture), len(CLASSES), input_size=SIDE)
    files = {SURROGATE: encode([network]), GENERATOR: safetensors.torch.save(torch_state), KEY: key}
    if settings.objective == "alignment":
        keys = [EVERY_CLASS] if settings.direction == "dataset" else range(len(CLASSES))
        reference = Reference(frozen(network, torch.device("cpu")))
        known = {label: reference.direction([clean(max(label, 0))]) for label in keys}
        directions = encode_directions([Reference(reference.network, directions=known)])
        assert directions is not None
        files[DIRECTIONS] = directions
    document = Document(
        version=__version__,
        torch=str(torch.__version__),
        device="cpu",
        threads=1,
        processor=processor("cpu"),
        settings=settings,
        classes=CLASSES,
        input_size=SIDE,
        crop_size=crop_size,
        lanes=lanes,
        speeds=settings.speeds(),
        generator=shape,
        surrogate="The surrogate is untrained.",
    )
    write_folder(folder, document, files)
    return folder


def generator(shape: Shape, scale: float = 1.0, seed: int = 0) -> Generator:
    """Build a generator in evaluation mode; a large scale of its last layer makes it put out the radius everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = Generator(shape)
    with torch.no_grad():
        built.last.weight.mul_(scale)
        for bias in (parameter for name, parameter in built.last.named_parameters() if name == "bias"):
            bias.zero_()
    return built.eval()


def clean(label: int) -> tuple[Tensor, Tensor]:
    images = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(label))
    return images, torch.full((4,), label)


def pixels(seed: int = 0, height: int = SIDE, width: int = SIDE, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
