"""Small tasks and competitors for the countermeasures that change the training."""

import torch
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor, Labelled, OnEpoch
from withhold.networks.classifier import Classifier, wrap
from withhold.networks.recipe import Recipe
from withhold.networks.training import EpochResult

CPU = torch.device("cpu")


def quiet(network: nn.Module, result: EpochResult) -> None:
    """Listen to nothing."""


def make_competitor(
    network: Classifier,
    recipe: Recipe,
    *,
    seed: int = 0,
    clean: Labelled | None = None,
    on_epoch: OnEpoch = quiet,
) -> Competitor:
    if clean is None:
        clean = Labelled(torch.zeros(0, 3, 16, 16, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    return Competitor(network, recipe, CPU, seed, clean, on_epoch)


def tiny_network(classes: int = 2, *, seed: int = 0, side: int = 16) -> Classifier:
    """A convolutional network with batch norm and dropout that trains in no time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(16, classes),
        )
    return wrap(body, classes, input_size=side, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def linear_network(classes: int, side: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes))
    return wrap(body, classes, input_size=side)


def stripes(count: int, *, side: int = 16, seed: int = 0, height: int = 90, noise: float = 25.0) -> Labelled:
    """Two classes that only the direction of stripes tells apart, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    wave = (torch.arange(side) % 4 < 2).float()
    phase = torch.randint(4, (count,), generator=generator)
    lines = torch.stack([wave.roll(int(offset)) for offset in phase])
    horizontal = lines[:, None, :, None].expand(-1, 3, -1, side)
    vertical = lines[:, None, None, :].expand(-1, 3, side, -1)
    images = torch.where(labels[:, None, None, None] == 0, horizontal, vertical) * height + 120 - height // 2
    drawn = torch.randn(images.shape, generator=generator) * noise
    return Labelled((images + drawn).clamp(0, 255).to(torch.uint8), labels)


def plain_colours(first: int, count: int, *, side: int = 16) -> Labelled:
    """Images of one level each, which no shift or mirroring changes: the level names the image."""
    levels = torch.arange(first, first + count, dtype=torch.uint8)
    return Labelled(levels[:, None, None, None].expand(-1, 3, side, side).contiguous(), torch.arange(count) % 2)


def layer(network: nn.Module, index: int) -> nn.Module:
    """Return a layer of the body of one of the networks above."""
    return network.get_submodule(f"body.{index}")


def weight(network: nn.Module, index: int) -> nn.Parameter:
    return network.get_parameter(f"body.{index}.weight")


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
