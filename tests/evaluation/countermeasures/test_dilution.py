from collections import Counter
from typing import Any

import pytest
import torch
from tests.evaluation.countermeasures.training_tasks import make_competitor, plain_colours, tiny_network

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.clean_alone import CleanAlone, repeat
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.dilution import Dilution
from withhold.networks.recipe import Recipe
from withhold.networks.training import EpochResult, TrainingData

RELEASED, CLEAN = plain_colours(0, 100), plain_colours(100, 12)


def trained_on(countermeasure: Countermeasure, monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """Count the levels and labels of the images that a countermeasure trains on in one epoch."""
    seen: Counter[tuple[int, int]] = Counter()

    def train(self: Competitor, data: TrainingData, **_: Any) -> Any:  # noqa: ANN401
        for images, labels in data.epoch(32, torch.Generator()):
            levels = (images[:, 0, 0, 0] * 255).round().int()
            seen.update(zip(levels.tolist(), labels.tolist(), strict=True))
        return self.network

    monkeypatch.setattr(Competitor, "train", train)
    competitor = make_competitor(tiny_network(), Recipe(epochs=1), clean=CLEAN)
    countermeasure(RELEASED.images, RELEASED.labels, competitor)
    return seen


def test_dilution_adds_as_many_clean_images_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = trained_on(Dilution(10), monkeypatch)
    assert seen == Counter({(level, level % 2): 1 for level in range(110)})
    assert Dilution(10).clean_images == 10


def test_clean_alone_uses_no_released_image_and_as_many_steps_as_all_of_them_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = trained_on(CleanAlone(12), monkeypatch)
    assert set(seen) == {(level, level % 2) for level in range(100, 112)}
    assert seen.total() == 100
    assert set(seen.values()) == {8, 9}
    assert CleanAlone(12).clean_images == 12


def test_more_clean_images_than_released_ones_are_all_used_once() -> None:
    assert torch.equal(repeat(CLEAN, 5).images, CLEAN.images)


@pytest.mark.parametrize("countermeasure", [Dilution(4), CleanAlone(4)])
def test_both_train_by_the_recipe(countermeasure: Countermeasure) -> None:
    epochs: list[int] = []

    def on_epoch(_: object, result: EpochResult) -> None:
        epochs.append(result.epoch)

    competitor = make_competitor(tiny_network(), Recipe(epochs=3, batch_size=32), clean=CLEAN, on_epoch=on_epoch)
    network = countermeasure(RELEASED.images, RELEASED.labels, competitor)
    assert network is competitor.network
    assert epochs == [1, 2, 3]
    assert int(network.get_buffer("body.1.num_batches_tracked")) == 3 * 4


@pytest.mark.parametrize("countermeasure", [Dilution(13), CleanAlone(13), CleanAlone(0)])
def test_without_enough_clean_images_they_are_refused(countermeasure: Countermeasure) -> None:
    competitor = make_competitor(tiny_network(), Recipe(epochs=1), clean=CLEAN)
    with pytest.raises(InvalidInput, match="the competitor has 12"):
        countermeasure(RELEASED.images, RELEASED.labels, competitor)
