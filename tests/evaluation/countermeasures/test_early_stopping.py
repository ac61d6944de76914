from collections.abc import Iterator

import pytest
import torch
from tests.evaluation.countermeasures.training_tasks import make_competitor, state, stripes, tiny_network
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures import early_stopping
from withhold.evaluation.countermeasures.early_stopping import Best, EarlyStopping, correct_answers
from withhold.networks.recipe import Recipe
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import EpochResult, accuracy


def test_of_a_scripted_curve_the_first_of_the_best_epochs_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    task, clean = stripes(64), stripes(20, seed=1)
    script: Iterator[int] = iter([4, 15, 9, 15, 3])
    monkeypatch.setattr(early_stopping, "correct_answers", lambda *_: next(script))
    states: list[dict[str, Tensor]] = []
    reported: list[int] = []

    def on_epoch(network: nn.Module, result: EpochResult) -> None:
        assert not network.training
        states.append(state(network))
        reported.append(result.epoch)

    competitor = make_competitor(tiny_network(), Recipe(epochs=5, batch_size=32), clean=clean, on_epoch=on_epoch)
    network = EarlyStopping(20)(task.images, task.labels, competitor)
    assert reported == [1, 2, 3, 4, 5]
    assert competitor.facts == {"chosen_epoch": 2, "validation_accuracy": 15 / 20}
    chosen = state(network)
    assert all(torch.equal(chosen[name], value) for name, value in states[1].items())
    assert not torch.equal(chosen["body.0.weight"], states[-1]["body.0.weight"])
    assert not network.training


def test_the_remembered_state_does_not_move_with_the_network() -> None:
    network = nn.Linear(2, 2)
    best = Best(lambda module: float(module.get_parameter("weight").detach()[0, 0]))
    for epoch, value in enumerate((0.5, 0.7, 0.1), start=1):
        nn.init.constant_(network.weight, value)
        best.consider(network, epoch)
    assert best.epoch == 2
    assert best.score == pytest.approx(0.7)
    assert torch.equal(best.state["weight"], torch.full((2, 2), 0.7))


def test_validation_accuracy_is_that_of_the_kept_network_on_the_first_clean_images() -> None:
    task, clean = stripes(96), stripes(60, seed=1)
    competitor = make_competitor(tiny_network(), Recipe(epochs=4, batch_size=32), clean=clean)
    network = EarlyStopping(50)(task.images, task.labels, competitor)
    measured = accuracy(network, clean.images[:50], clean.labels[:50])
    assert competitor.facts["validation_accuracy"] == pytest.approx(measured)


def test_every_image_is_counted_once() -> None:
    task, network = stripes(1100), tiny_network().eval()
    counted = correct_answers(network, TensorData(task.images, task.labels, 2, augment=False), torch.device("cpu"))
    assert counted == round(accuracy(network, task.images, task.labels) * 1100)


@pytest.mark.parametrize("validation", [0, 21])
def test_without_enough_clean_images_it_is_refused(validation: int) -> None:
    task, clean = stripes(20), stripes(20, seed=1)
    competitor = make_competitor(tiny_network(), Recipe(epochs=1), clean=clean)
    with pytest.raises(InvalidInput, match="the competitor has 20"):
        EarlyStopping(validation)(task.images, task.labels, competitor)
    assert EarlyStopping(validation).clean_images == validation
