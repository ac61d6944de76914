import pytest
import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """One attention layer over the rows of an image: fused kernels have no second derivative."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)

    def forward(self, rows: Tensor) -> Tensor:
        query, key, value = self.project(rows).chunk(3, dim=-1)
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)


def _convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(6, 8, 3, stride=2, bias=True),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def _smooth() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(5 * 36, 4))


def _attentive() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(2), Attention(64), nn.Flatten(), nn.Linear(3 * 64, 4))


NETWORKS = {"convolutional": _convolutional, "smooth": _smooth, "attentive": _attentive}


def make_network(kind: str, *, seed: int = 0) -> nn.Sequential:
    """Build a small float64 classifier of (b, 3, 8, 8) into four classes, with lived-in batch norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = NETWORKS[kind]().double()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean = torch.randn(layer.num_features).double()
                layer.running_var = torch.rand(layer.num_features).double() + 0.5
                nn.init.normal_(layer.weight, 1, 0.3)
                nn.init.normal_(layer.bias, 0, 0.3)
    network.eval()
    return network


def make_batch(count: int = 6, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 8, 8, generator=generator).double()
    return images, torch.randint(0, 4, (count,), generator=generator)


@pytest.fixture(params=sorted(NETWORKS))
def network(request: pytest.FixtureRequest) -> nn.Module:
    return make_network(request.param)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return make_batch()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)
