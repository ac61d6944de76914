import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tests.evaluation.countermeasures.training_tasks import (
    linear_network,
    make_competitor,
    plain_colours,
    state,
    stripes,
    tiny_network,
    weight,
)
from torch import nn

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.countermeasures.dp_sgd import DELTA, PHYSICAL_BATCH, DpSgd, PrivateTraining, groups
from withhold.networks.classifier import wrap
from withhold.networks.head import train_head_only
from withhold.networks.recipe import Recipe
from withhold.networks.training import Diverged, EpochResult, accuracy
from withhold.networks.vit import VisionTransformer

accountants = pytest.importorskip("opacus.accountants")

RECIPE = Recipe(epochs=2, batch_size=20)


def test_epsilon_is_what_the_accountant_says_when_asked_independently() -> None:
    task = stripes(50)
    competitor = make_competitor(tiny_network(), RECIPE)
    DpSgd(noise=0.8)(task.images, task.labels, competitor)
    epsilon = float(competitor.facts["epsilon"])
    accountant = accountants.RDPAccountant()
    for _ in range(2 * 3):  # two epochs of ceil(50 / 20) steps
        accountant.step(noise_multiplier=0.8, sample_rate=20 / 50)
    assert epsilon == pytest.approx(accountant.get_epsilon(delta=1e-5))
    # A second way of accounting, which is tighter: Renyi accounting is a bound, and not a loose one.
    numerical = accountants.PRVAccountant()
    numerical.history = [(0.8, 20 / 50, 6)]
    tight = numerical.get_epsilon(delta=1e-5, eps_error=0.1)
    assert 0.6 * epsilon < tight <= epsilon
    assert competitor.facts["delta"] == DELTA


def test_epsilon_is_finite_and_positive_and_grows_with_epochs_and_falls_with_noise() -> None:
    task = stripes(30)

    def epsilon(epochs: int, noise: float) -> float:
        competitor = make_competitor(tiny_network(), replace(RECIPE, epochs=epochs, batch_size=15))
        DpSgd(noise=noise)(task.images, task.labels, competitor)
        return float(competitor.facts["epsilon"])

    one, three, quiet = epsilon(1, 1.0), epsilon(3, 1.0), epsilon(1, 0.3)
    assert 0 < one < three < math.inf
    assert one < quiet < math.inf


def coloured(count: int) -> Labelled:
    """Images in which no shift changes anything, of many different gradients."""
    return plain_colours(40, count, side=8)


def test_a_step_is_the_mean_of_the_gradients_of_single_images_each_clipped() -> None:
    task = coloured(PHYSICAL_BATCH + 20)  # more than one physical batch
    network = linear_network(2, side=8)
    recipe = Recipe(epochs=1, batch_size=500, lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.0, warmup=0.0)
    clip, first = 1.7, state(network)
    expected = {name: torch.zeros_like(value) for name, value in first.items()}
    norms = []
    for image, label in zip(task.images, task.labels, strict=True):
        loss = F.cross_entropy(network(image[None] / 255), label[None], label_smoothing=recipe.label_smoothing)
        gradients = torch.autograd.grad(loss, [weight(network, 1), network.get_parameter("body.1.bias")])
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
        for name, gradient in zip(("body.1.weight", "body.1.bias"), gradients, strict=True):
            expected[name] += gradient * min(1.0, clip / norms[-1]) / len(task)
    assert min(norms) < clip < max(norms)
    trained = state(DpSgd(clip, noise=1e-9)(task.images, task.labels, make_competitor(network, recipe)))
    for name in ("body.1.weight", "body.1.bias"):
        torch.testing.assert_close((first[name] - trained[name]) / 0.5, expected[name], rtol=1e-3, atol=1e-6)


def test_the_noise_of_a_step_has_the_stated_deviation() -> None:
    task = coloured(10)
    network = linear_network(5, side=8)
    recipe = Recipe(epochs=1, batch_size=10, lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0, warmup=0.0)
    weights = [
        state(DpSgd(0.2, noise)(task.images, task.labels, make_competitor(network, recipe)))["body.1.weight"]
        for noise in (1e-9, 3.0)
    ]
    assert float((weights[1] - weights[0]).std()) == pytest.approx(3.0 * 0.2 / 10, rel=0.1)


def test_batch_norms_become_group_norms_and_the_competitors_own_network_stays() -> None:
    task, network = stripes(20), tiny_network()
    before = state(network)
    seen: list[tuple[bool, EpochResult]] = []
    competitor = make_competitor(network, RECIPE, on_epoch=lambda net, result: seen.append((net.training, result)))
    private = DpSgd()(task.images, task.labels, competitor)
    kinds = {type(layer) for layer in private.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [(training, result.epoch) for training, result in seen] == [(False, 1), (False, 2)]
    assert not private.training
    assert not any(hasattr(parameter, "grad_sample") for parameter in private.parameters())


@pytest.mark.parametrize(("channels", "expected"), [([64, 512], 32), ([16, 32], 8), ([24, 16], 4), ([3], 1), ([], 1)])
def test_no_group_norm_sees_a_single_channel_where_that_can_be(channels: list[int], expected: int) -> None:
    network = nn.Sequential(*(nn.BatchNorm2d(count) for count in channels))
    assert groups(network) == expected


def test_it_learns_a_simple_task() -> None:
    task, unseen = stripes(160), stripes(100, seed=1)
    competitor = make_competitor(tiny_network(), Recipe(epochs=10, batch_size=32))
    network = DpSgd(noise=0.5)(task.images, task.labels, competitor)
    assert accuracy(network, unseen.images, unseen.labels) >= 0.9


def test_batches_are_poisson_samples_and_an_empty_one_is_a_step_of_noise_alone() -> None:
    task = coloured(3)
    network = linear_network(2, side=8)
    competitor = make_competitor(network, replace(RECIPE, epochs=5, batch_size=1))
    training = PrivateTraining(task.images, task.labels, competitor, clip=1.0, noise=1.0)
    sizes = [sum(len(labels) for _, labels in training._draw()) for _ in range(300)]
    expected = [(2 / 3) ** 3, 3 * (2 / 3) ** 2 / 3, 3 * (2 / 3) / 9, 1 / 27]
    assert [sizes.count(size) / 300 for size in range(4)] == pytest.approx(expected, abs=0.1)
    before = state(training.network)
    training._update_by_noise_alone()
    assert not torch.equal(before["body.1.weight"], training.network.state_dict()["body.1.weight"])
    DpSgd()(task.images, task.labels, competitor)
    assert math.isfinite(float(competitor.facts["epsilon"]))


def test_a_transformer_can_be_trained_privately() -> None:
    task = stripes(12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = wrap(VisionTransformer(2, 16, width=16, depth=1, heads=2), 2, input_size=16)
    before = state(network)
    trained = DpSgd()(task.images, task.labels, make_competitor(network, replace(RECIPE, epochs=1)))
    assert not torch.equal(before["body.positions"], state(trained)["body.positions"])


def test_of_a_frozen_network_only_the_classification_layer_is_trained() -> None:
    task, network = stripes(20), tiny_network()
    train_head_only(network)
    before = state(network)
    after = state(DpSgd()(task.images, task.labels, make_competitor(network, RECIPE)))
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"body.9.weight", "body.9.bias"}


def test_a_loss_that_is_not_finite_is_divergence() -> None:
    task, network = stripes(20), linear_network(2, side=16)
    nn.init.constant_(weight(network, 1), math.nan)
    with pytest.raises(Diverged, match="epoch 1"):
        DpSgd()(task.images, task.labels, make_competitor(network, RECIPE))


@pytest.mark.parametrize(("clip", "noise"), [(0.0, 0.1), (1.0, 0.0), (1.0, math.inf)])
def test_settings_without_privacy_are_refused(clip: float, noise: float) -> None:
    with pytest.raises(InvalidInput, match="finite and above 0"):
        DpSgd(clip, noise)
