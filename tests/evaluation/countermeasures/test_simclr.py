import math

import pytest
import torch
import torch.nn.functional as F
from tests.evaluation.countermeasures.training_tasks import make_competitor, state, stripes, tiny_network, weight
from torch import Tensor, nn

from withhold.evaluation.countermeasures.simclr import SimCLR, feature_parameters, nt_xent, projection_head, views
from withhold.networks.head import train_head_only
from withhold.networks.recipe import Recipe
from withhold.networks.training import Diverged, EpochResult, accuracy

pytest.importorskip("pytorch_metric_learning")

RECIPE = Recipe(epochs=2, batch_size=32)
HEAD = {"body.9.weight", "body.9.bias"}


def test_the_loss_is_the_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(6, 5, generator=generator) for _ in range(2))
    vectors = F.normalize(torch.cat([first, second])).double()
    total = 0.0
    for one in range(12):
        other = (one + 6) % 12
        similar = [math.exp(float(vectors[one] @ vectors[k]) / 0.5) for k in range(12)]
        total -= math.log(similar[other] / (sum(similar) - similar[one]))
    assert float(nt_xent()(first, second)) == pytest.approx(total / 12, rel=1e-5)


def test_views_are_different_images_of_the_networks_size_in_the_range() -> None:
    images = torch.rand(16, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        draw = views(16)
        first, second = draw(images), draw(images)
    assert first.shape == (16, 3, 16, 16)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert all(float((one - two).abs().mean()) > 0.01 for one, two in zip(first, second, strict=True))
    grey = ((first - first.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5).sum()
    assert 0 < int(grey) < 12  # a fifth on average


def test_the_probe_learns_a_simple_task_and_only_its_layer_changes_meanwhile() -> None:
    task, unseen = stripes(192), stripes(100, seed=1)
    states: list[dict[str, Tensor]] = []
    epochs: list[int] = []

    def on_epoch(network: nn.Module, result: EpochResult) -> None:
        assert not network.training
        states.append(state(network))
        epochs.append(result.epoch)

    network = tiny_network()
    first = state(network)
    competitor = make_competitor(network, Recipe(epochs=12, batch_size=32), on_epoch=on_epoch)
    trained = SimCLR(length=2.0, batch_size=64)(task.images, task.labels, competitor)
    assert accuracy(trained, unseen.images, unseen.labels) >= 0.9
    assert epochs == list(range(1, 13))
    changed = {name for name in first if not torch.equal(states[0][name], states[-1][name])}
    assert changed == HEAD
    assert not torch.equal(first["body.0.weight"], states[0]["body.0.weight"])
    assert float(competitor.facts["contrastive_loss"]) < math.log(2 * 64 - 1)  # that of features that tell nothing


def test_features_do_not_depend_on_the_labels() -> None:
    task = stripes(48)
    one, other = (
        state(SimCLR()(task.images, labels, make_competitor(tiny_network(), RECIPE)))
        for labels in (task.labels, 1 - task.labels)
    )
    assert {name for name in one if not torch.equal(one[name], other[name])} == HEAD


def test_the_classification_layer_keeps_its_initial_weights_until_the_probe() -> None:
    network = tiny_network()
    ids = {id(parameter) for parameter in feature_parameters(network)}
    left = {name for name, parameter in network.named_parameters() if id(parameter) not in ids}
    assert left == HEAD
    assert [tuple(p.shape) for p in projection_head(network).parameters()] == [(16, 16), (16,), (128, 16), (128,)]


def test_of_a_frozen_network_only_the_classification_layer_is_trained() -> None:
    task, network = stripes(48), tiny_network()
    train_head_only(network)
    before = state(network)
    after = state(SimCLR()(task.images, task.labels, make_competitor(network, RECIPE)))
    assert {name for name in after if not torch.equal(before[name], after[name])} == HEAD


def test_a_loss_that_is_not_finite_is_divergence() -> None:
    task, network = stripes(20), tiny_network()
    nn.init.constant_(weight(network, 0), math.nan)
    with pytest.raises(Diverged, match="epoch 1"):
        SimCLR()(task.images, task.labels, make_competitor(network, RECIPE))
