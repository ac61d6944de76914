from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput, RunStopped
from withhold.networks.classifier import wrap
from withhold.networks.recipe import Recipe, recipe_for
from withhold.networks.table import build
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import EpochResult, Trained, accuracy, as_unit, train
from withhold.networks.vit import VisionTransformer

CPU = torch.device("cpu")
SHORT = Recipe(epochs=2, batch_size=32)


def trained(data: TensorData, *, seed: int = 0, recipe: Recipe = SHORT, snapshots: int = 1) -> Trained:
    network = build("resnet9", 2, input_size=16, seed=seed)
    return train(network, data, recipe, seed=seed, device=CPU, snapshots=snapshots)


def test_learns_a_task_that_only_texture_solves(stripe_data: TensorData, unseen_stripes: tuple[Tensor, Tensor]) -> None:
    network = trained(stripe_data, recipe=Recipe(epochs=8)).network
    assert accuracy(network, *unseen_stripes) >= 0.95
    assert not network.training


def test_a_transformer_learns_which_images_are_brighter() -> None:
    labels = torch.arange(160) % 2
    images = torch.randint(0, 200, (160, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[labels == 1] += 30
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = wrap(VisionTransformer(2, 16, width=16, depth=1, heads=2), 2, input_size=16)
    recipe = replace(recipe_for("vit", 96, epochs=12), batch_size=16)
    train(network, TensorData(images[:96], labels[:96], classes=2), recipe, seed=0, device=CPU)
    assert accuracy(network, images[96:], labels[96:]) >= 0.95


def test_equal_seeds_give_equal_weights_and_other_seeds_others(stripe_data: TensorData) -> None:
    one, same, other = (trained(stripe_data, seed=seed).snapshots[-1] for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["body.linear.weight"], other["body.linear.weight"])


class WithDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(nn.functional.dropout(x.mean((2, 3)), 0.5, self.training))
        return logits


def test_neither_depends_on_global_randomness_nor_changes_it(stripe_data: TensorData) -> None:
    weights = []
    for state in (1, 2):
        torch.manual_seed(state)
        network = WithDropout()
        nn.init.ones_(network.linear.weight)
        nn.init.zeros_(network.linear.bias)
        before = torch.get_rng_state()
        train(network, stripe_data, SHORT, seed=0, device=CPU)
        assert torch.equal(before, torch.get_rng_state())
        weights.append(network.linear.weight.detach())
    assert torch.equal(*weights)


def test_snapshots_are_evenly_spaced_and_the_last_one_is_the_network(stripe_data: TensorData) -> None:
    result = trained(stripe_data, recipe=Recipe(epochs=4, batch_size=32), snapshots=2)
    steps = [int(state["body.features.0.norm.num_batches_tracked"]) for state in result.snapshots]
    assert steps == [2 * 6, 4 * 6]
    final = result.network.state_dict()
    assert all(torch.equal(final[name], value) for name, value in result.snapshots[-1].items())


def test_every_epoch_is_reported(stripe_data: TensorData) -> None:
    seen: list[EpochResult] = []
    network = build("resnet9", 2, input_size=16)
    result = train(network, stripe_data, SHORT, seed=0, device=CPU, on_epoch=seen.append)
    assert tuple(seen) == result.history
    assert [entry.epoch for entry in seen] == [1, 2]


class Recorded(nn.Module):
    """One weight whose gradient is always 1, so that its path shows the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.bias.expand(len(x)), torch.zeros(len(x)) - 1e4], dim=1)


def test_learning_rate_rises_to_its_peak_and_falls_towards_zero(
    stripe_data: TensorData, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def recorded(self: torch.optim.SGD) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.SGD, "step", recorded)
    train(Recorded(), stripe_data, Recipe(epochs=2, batch_size=32, lr=1.0, warmup=0.25), seed=0, device=CPU)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, *(n / 9 for n in range(8, 0, -1))])


def test_weight_decay_spares_biases_and_norms(stripe_data: TensorData) -> None:
    network = build("resnet9", 2, input_size=16)
    constant = Recipe(epochs=1, batch_size=192, lr=0.1, weight_decay=1.0, momentum=0.0, warmup=0.0, label_smoothing=0.0)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(network.body.get_submodule("features.1.conv").weight)  # type: ignore[arg-type]
    nn.init.ones_(network.body.get_submodule("features.1.norm").weight)  # type: ignore[arg-type]
    train(network, stripe_data, constant, seed=0, device=CPU)
    # A network of zeros elsewhere has no gradient here, so decay alone could have moved these.
    after = network.state_dict()
    assert after["body.features.1.conv.weight"].flatten().tolist() == pytest.approx([0.9] * 4608)
    assert after["body.features.1.norm.weight"].tolist() == [1.0] * 32


class Exploding(TensorData):
    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in super().epoch(batch_size, generator):
            yield images * torch.inf, labels


def test_divergence_stops_the_run_in_words(stripe_images: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(RunStopped, match="diverged in epoch 1"):
        trained(Exploding(*stripe_images, classes=2))


@pytest.mark.parametrize("snapshots", [0, 3])
def test_refuses_more_snapshots_than_epochs(stripe_data: TensorData, snapshots: int) -> None:
    with pytest.raises(InvalidInput, match="between 1 and 2"):
        trained(stripe_data, snapshots=snapshots)


def test_refuses_an_empty_set() -> None:
    with pytest.raises(InvalidInput, match="got 0 images"):
        trained(TensorData(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0), classes=2))


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": 0.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"warmup": 1.0}]
)
def test_refuses_recipes_that_cannot_train(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="a recipe needs"):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_small_sets_get_more_epochs_and_pretrained_networks_fewer() -> None:
    assert recipe_for("resnet9", 50_000).epochs == 12
    assert recipe_for("resnet9", 10_000).epochs == 12
    assert recipe_for("resnet9", 4_000).epochs == 30
    assert recipe_for("resnet9", 10).epochs == 100
    assert recipe_for("resnet9", 10_000, epochs=3).epochs == 3
    assert recipe_for("timm:x", 10_000, pretrained=True).epochs < 12
    assert recipe_for("timm:x", 10_000, pretrained=True).lr < recipe_for("resnet9", 10_000).lr
    assert recipe_for("vit", 10_000).optimizer == "adamw"


def test_recognisers_have_a_recipe_of_their_own_for_few_and_for_many_pictures() -> None:
    few, many = recipe_for("iresnet10-narrow", 1_349), recipe_for("iresnet50", 500_000)
    assert (few.epochs, few.batch_size, few.margin_growth) == (48, 32, 0.5)
    assert (many.epochs, many.batch_size) == (20, 128)
    assert recipe_for("iresnet18", 10).epochs == 100
    assert recipe_for("iresnet18", 10, epochs=3).epochs == 3
    assert recipe_for("iresnet18", 1_000, pretrained=True) == recipe_for("resnet18", 1_000, pretrained=True)


def test_accuracy_counts_the_images_that_are_right() -> None:
    class Brightest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) * self.scale

    images = torch.zeros(5, 3, 2, 2)
    images[torch.arange(5), torch.tensor([0, 1, 2, 0, 1])] = 1.0
    assert accuracy(Brightest(), images, torch.tensor([0, 1, 2, 1, 0]), batch_size=2) == 3 / 5


def test_as_unit_maps_levels_to_fractions_and_leaves_floats() -> None:
    assert as_unit(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0.0, 0.2, 1.0])
    floats = torch.rand(3)
    assert as_unit(floats) is floats
