import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.craft import CraftedData, ErrorMaximising, ErrorMinimising, Linf, constant_steps
from withhold.craft.training_batches import Batches, evaluating
from withhold.errors import InvalidInput

RADIUS = 0.1


class Noise:
    """Random images in batches of nearly equal size, drawn from the generator."""

    classes = 4

    def __len__(self) -> int:
        return 10

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self), batch_size):
            count = min(batch_size, len(self) - start)
            images = torch.rand(count, 3, 8, 8, generator=generator)
            yield images, torch.randint(0, self.classes, (count,), generator=generator)


class Remembered:
    """The same batches again, to compare with."""

    classes = 4

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return sum(len(labels) for _, labels in self.batches)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ARG002
        yield from self.batches


def in_training(seed: int = 0) -> nn.Sequential:
    """A network in training mode but for one frozen layer, with batch norm and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(216, 4)
        )
    network.train()
    network[3].eval()
    return network


def loss_of(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    evaluated = copy.deepcopy(network).eval()
    with torch.no_grad():
        return float(F.cross_entropy(evaluated(images), labels))


@pytest.mark.parametrize(("objective", "sign"), [(ErrorMinimising, -1), (ErrorMaximising, 1)])
def test_the_objective_decides_whether_batches_lose_or_gain_loss(
    objective: type[ErrorMinimising] | type[ErrorMaximising], sign: int
) -> None:
    network = in_training()
    clean = list(Noise().epoch(4, torch.Generator().manual_seed(1)))
    data = CraftedData(Remembered(clean), network, objective, Linf(RADIUS), constant_steps(RADIUS / 4, 10))
    for (images, labels), (perturbed, same) in zip(clean, data.epoch(4, torch.Generator()), strict=True):
        assert torch.equal(labels, same)
        assert (perturbed - images).abs().max() <= RADIUS + 1e-6
        assert perturbed.min() >= 0
        assert perturbed.max() <= 1
        assert not perturbed.requires_grad
        assert sign * (loss_of(network, perturbed, labels) - loss_of(network, images, labels)) > 0.1


def test_the_network_is_only_read() -> None:
    network = in_training()
    before = copy.deepcopy(network.state_dict())
    modes = [layer.training for layer in network.modules()]
    random = torch.get_rng_state()
    data = CraftedData(Noise(), network, ErrorMinimising, Linf(RADIUS), (0.05,))
    for _ in data.epoch(4, torch.Generator()):
        assert [layer.training for layer in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_the_mode_returns_when_crafting_fails() -> None:
    network = in_training()
    wrong = Remembered([(torch.full((2, 3, 8, 8), 2.0), torch.tensor([0, 1]))])
    data = CraftedData(wrong, network, ErrorMinimising, Linf(RADIUS), (0.05,))
    with pytest.raises(InvalidInput, match="pixels lie in"):
        next(data.epoch(2, torch.Generator()))
    assert network.training
    assert not network[3].training


def test_batches_follow_the_network_as_it_changes() -> None:
    """Crafted when they are asked for: against the weights of that step, not those of the epoch's beginning."""
    network = in_training()
    image, label = torch.full((1, 3, 8, 8), 0.5), torch.tensor([0])
    data = CraftedData(Remembered([(image, label)] * 2), network, ErrorMinimising, Linf(RADIUS), (1.0,))
    batches = data.epoch(1, torch.Generator().manual_seed(0))
    first, _ = next(batches)
    with torch.no_grad():
        last = network[5]
        assert isinstance(last, nn.Linear)
        last.weight.neg_()
    second, _ = next(batches)
    opposite = (first - image).sign() == -(second - image).sign()
    assert opposite.float().mean() > 0.75, "the other start makes some ReLU switch, no more"


def test_equal_generators_give_equal_batches() -> None:
    data = CraftedData(Noise(), in_training(), ErrorMinimising, Linf(RADIUS), (0.02, 0.02))
    runs = [[images for images, _ in data.epoch(4, torch.Generator().manual_seed(seed))] for seed in (0, 0, 1)]
    assert all(torch.equal(one, same) for one, same in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])
    assert [len(images) for images in runs[0]] == [4, 4, 2]
    assert len(data) == 10
    assert data.classes == 4
    assert isinstance(data, Batches)


def test_every_module_gets_back_the_mode_it_had() -> None:
    frozen = nn.BatchNorm2d(3)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.Dropout(), frozen))
    network.train()
    frozen.eval()  # as in fine-tuning
    modes = [module.training for module in network.modules()]
    with evaluating(network) as evaluated:
        assert not any(module.training for module in evaluated.modules())
    assert [module.training for module in network.modules()] == modes
    with pytest.raises(ValueError, match="expected 4D"), evaluating(network):
        network(torch.zeros(3))
    assert [module.training for module in network.modules()] == modes
