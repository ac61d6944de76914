from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor, Labelled
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.networks.classifier import wrap
from withhold.networks.recipe import Recipe
from withhold.networks.training import EpochResult, TrainingData

SIDE = 16
CLASSES = 4

MakeCompetitor = Callable[..., Competitor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def photographs(generator: torch.Generator) -> Labelled:
    """32 smooth random images, uint8: neighbouring pixels are alike, as in photographs."""
    coarse = torch.rand(32, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=True)
    noisy = (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
    return Labelled((noisy * 255).round().to(torch.uint8), torch.arange(32) % CLASSES)


@pytest.fixture
def batch(photographs: Labelled) -> Tensor:
    """The same images as a float batch in [0, 1]."""
    return photographs.images.float() / 255


def tiny_network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolution = nn.Conv2d(3, 8, 3, stride=2)
        return nn.Sequential(
            convolution, nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
        )


def _ignore(network: nn.Module, result: EpochResult) -> None:
    del network, result


@pytest.fixture
def make_competitor(photographs: Labelled) -> MakeCompetitor:
    def make(
        network: nn.Module | None = None,
        clean: int = 0,
        on_epoch: Callable[[nn.Module, EpochResult], None] = _ignore,
    ) -> Competitor:
        classifier = wrap(network or tiny_network(), CLASSES, input_size=SIDE)
        owned = photographs.take(torch.arange(clean) % len(photographs))
        recipe = Recipe(epochs=2, batch_size=16, lr=0.01)
        return Competitor(classifier, recipe, torch.device("cpu"), 0, owned, on_epoch)

    return make


Seen = Callable[[Countermeasure], TrainingData]


@pytest.fixture
def seen(photographs: Labelled, make_competitor: MakeCompetitor, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Get the data that a countermeasure trains on, with the recipe's own shifts and mirrors switched off."""

    def of(countermeasure: Countermeasure) -> TrainingData:
        competitor = make_competitor()
        caught: list[TrainingData] = []
        views = Competitor.views

        def plain_views(self: Competitor, images: Tensor, labels: Tensor) -> TrainingData:
            return views(self, images, labels, augment=False)

        def catch(self: Competitor, data: TrainingData, **_: object) -> nn.Module:
            caught.append(data)
            return self.network

        with monkeypatch.context() as patch:
            patch.setattr(Competitor, "views", plain_views)
            patch.setattr(Competitor, "train", catch)
            countermeasure(photographs.images, photographs.labels, competitor)
        return caught[0]

    return of
