from dataclasses import replace
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from tests.evaluation.countermeasures.training_tasks import (
    layer,
    linear_network,
    make_competitor,
    stripes,
    tiny_network,
    weight,
)

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.adversarial import AdversarialTraining
from withhold.evaluation.countermeasures.plain import Plain
from withhold.networks.recipe import Recipe
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import as_unit

EIGHT = Fraction(8, 255)
RECIPE = Recipe(epochs=10, batch_size=32)


def test_against_a_linear_network_the_attack_is_the_corner_of_the_ball_that_raises_the_loss_most() -> None:
    network = linear_network(2, side=8)
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 2
    data = AdversarialTraining(EIGHT).attacked(TensorData(images, labels, 2, augment=False), network)
    (attacked, given), (originals, same) = (
        next(source.epoch(20, torch.Generator().manual_seed(1)))
        for source in (data, TensorData(images, labels, 2, augment=False))
    )
    assert torch.equal(given, same)
    vectors = weight(network, 1).detach()
    sign = (vectors[1] - vectors[0]).sign().view(3, 8, 8) * torch.where(given == 0, 1.0, -1.0)[:, None, None, None]
    torch.testing.assert_close(attacked, (originals + 8 / 255 * sign).clamp(0, 1))


def test_the_attack_stays_in_the_ball_and_the_range_and_leaves_the_network_as_it_was() -> None:
    network, task = tiny_network(), stripes(32)
    network.train()
    layer(network, 8).eval()  # a mode of its own, as a frozen layer has
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = AdversarialTraining(EIGHT).attacked(TensorData(task.images, task.labels, 2, augment=False), network)
    ((attacked, _),) = data.epoch(32, torch.Generator().manual_seed(1))
    ((originals, _),) = TensorData(task.images, task.labels, 2, augment=False).epoch(
        32, torch.Generator().manual_seed(1)
    )
    assert float((attacked - originals).abs().max()) <= 8 / 255 + 1e-6
    assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1
    assert network.training
    assert not layer(network, 8).training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_lowers_the_robust_loss_below_that_of_plain_training() -> None:
    task = stripes(96, height=30, noise=5)  # stripes that the attack can nearly wash out
    attack = AdversarialTraining(EIGHT)
    robust = make_competitor(tiny_network(), RECIPE)
    attack(task.images, task.labels, robust)
    plain = Plain()(task.images, task.labels, make_competitor(tiny_network(), RECIPE))
    data = TensorData(task.images, task.labels, 2, augment=False)
    plain_loss, plain_accuracy = attack.robustness(plain, data, torch.Generator().manual_seed(0))
    with torch.no_grad():
        unattacked = float(F.cross_entropy(plain(as_unit(task.images)), task.labels))
    assert plain_loss > unattacked + 0.3  # the attack raises the loss: with its sign flipped it would lower it
    assert float(robust.facts["robust_loss"]) < plain_loss - 0.3
    assert float(robust.facts["robust_accuracy"]) > plain_accuracy + 0.3


def test_the_facts_agree_with_an_attack_from_outside() -> None:
    task = stripes(40)
    competitor = make_competitor(tiny_network(), replace(RECIPE, epochs=1))
    attack = AdversarialTraining(EIGHT)
    network = attack(task.images, task.labels, competitor)
    data = TensorData(task.images, task.labels, 2, augment=False)
    loss, accuracy = attack.robustness(network, data, torch.Generator().manual_seed(9))
    assert competitor.facts["robust_loss"] == pytest.approx(loss, rel=0.05)
    assert competitor.facts["robust_accuracy"] == pytest.approx(accuracy, abs=0.05)


@pytest.mark.parametrize("eps", [Fraction(0), Fraction(8)])
def test_a_radius_that_is_no_fraction_of_the_pixel_range_is_refused(eps: Fraction) -> None:
    with pytest.raises(InvalidInput, match="fraction of the pixel range"):
        AdversarialTraining(eps)
