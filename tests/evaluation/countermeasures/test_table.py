import dataclasses
import importlib.util

import pytest
import torch

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.plain import Plain
from withhold.evaluation.countermeasures.table import COUNTERMEASURES, find, sentence

from .conftest import CLASSES, SIDE, MakeCompetitor


@pytest.mark.parametrize("name", COUNTERMEASURES)
def test_every_countermeasure_trains_a_network_and_leaves_its_inputs_and_the_global_randomness_alone(
    name: str, photographs: Labelled, make_competitor: MakeCompetitor
) -> None:
    countermeasure = COUNTERMEASURES[name]
    missing = [package for package in countermeasure.packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    images, labels = photographs.images.clone(), photographs.labels.clone()
    competitor = make_competitor(clean=countermeasure.clean_images)
    with torch.no_grad():
        untrained = competitor.network.eval()(images.float() / 255)
    randomness = torch.random.get_rng_state()

    network = countermeasure(photographs.images, photographs.labels, competitor)

    assert torch.equal(torch.random.get_rng_state(), randomness)
    assert torch.equal(photographs.images, images)
    assert torch.equal(photographs.labels, labels)
    assert not network.training
    with torch.no_grad():
        logits = network(images.float() / 255)
    assert logits.shape == (len(images), CLASSES)
    assert logits.isfinite().all()
    assert not torch.allclose(logits, untrained)


@pytest.mark.parametrize(
    "name", ["cutout", "cutmix", "mixup", "randaugment", "noise-8", "ueraser-max", "ueraser-max-jpeg", "warp-smooth"]
)
def test_equal_seeds_give_equal_networks(name: str, photographs: Labelled, make_competitor: MakeCompetitor) -> None:
    networks = []
    for state in (1, 2):
        torch.manual_seed(state)
        network = COUNTERMEASURES[name](photographs.images, photographs.labels, make_competitor())
        networks.append(network.state_dict())
    assert all(torch.equal(value, networks[1][key]) for key, value in networks[0].items())


def test_larger_images_than_the_network_takes_are_cropped(
    photographs: Labelled, make_competitor: MakeCompetitor
) -> None:
    larger = torch.nn.functional.interpolate(photographs.images.float(), (24, 28)).to(torch.uint8)
    for name in ("cutmix", "blur-3", "warp", "standardise"):
        network = COUNTERMEASURES[name](larger, photographs.labels, make_competitor())
        with torch.no_grad():
            assert network(torch.rand(2, 3, SIDE, SIDE)).isfinite().all()


def test_plain_training_comes_first_and_costs_one() -> None:
    name, countermeasure = next(iter(COUNTERMEASURES.items()))
    assert (name, countermeasure, countermeasure.cost) == ("none", Plain(), 1.0)


def test_countermeasures_are_frozen_values_with_different_sentences() -> None:
    sentences = [sentence(countermeasure) for countermeasure in COUNTERMEASURES.values()]
    assert len(set(sentences)) == len(sentences)
    for countermeasure, text in zip(COUNTERMEASURES.values(), sentences, strict=True):
        assert dataclasses.is_dataclass(countermeasure)
        hash(countermeasure)
        assert "\n" not in text
        assert text.endswith(".")
        assert not text.endswith("..")


def test_a_sentence_states_parameters_where_there_are_any() -> None:
    assert sentence(Plain()) == "Train on the images as they are."
    assert sentence(find("grey-test")).endswith("in three equal channels; test images: yes.")
    assert sentence(find("blur-3")).endswith("the border is reflected; side: 3, sigma: 0.8.")
    assert sentence(find("noise-8")).endswith("; deviation: 0.0314.")


def test_a_misspelt_name_is_answered_with_the_nearest_and_all_that_there_are() -> None:
    assert find("warp") is COUNTERMEASURES["warp"]
    with pytest.raises(InvalidInput, match="'jpg-10'; the nearest is 'jpeg-10'") as refused:
        find("jpg-10")
    assert all(name in str(refused.value) for name in COUNTERMEASURES)


def test_every_entry_is_a_countermeasure_with_a_cost_that_is_no_saving_without_reason() -> None:
    for countermeasure in COUNTERMEASURES.values():
        assert isinstance(countermeasure, Countermeasure)
        assert countermeasure.cost > 0
