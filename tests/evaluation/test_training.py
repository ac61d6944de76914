from dataclasses import asdict, replace

import pytest
import torch
from tests.evaluation.datasets import BOUND, SIDE, folders

from withhold.evaluation import training
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.images import Sets, load_sets
from withhold.evaluation.matching import Sources, choose_images
from withhold.evaluation.results import Cell
from withhold.evaluation.settings import EvaluateSettings
from withhold.evaluation.training import Harness, material_of
from withhold.networks.recipe import Recipe
from withhold.networks.training import Diverged

CPU = torch.device("cpu")
SHORT = EvaluateSettings(epochs=2)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    data = folders(tmp_path_factory.mktemp("evaluate"))
    chosen = choose_images(Sources(data.originals, data.released, data.test), SHORT)
    return load_sets(chosen, SIDE, "native", BOUND, seed=0)


def cell(material: str = "original", countermeasure: str = "none", seed: int = 0) -> Cell:
    return Cell(material, countermeasure, "resnet9", seed)


def test_a_control_on_the_originals_learns_the_task(sets: Sets) -> None:
    result = Harness(sets, EvaluateSettings(epochs=10), CPU).run(cell())
    assert result.final >= 0.9
    assert result.final == result.curve[-1]
    assert len(result.curve) == len(result.losses) == 10
    first, second = result.per_class
    assert first is not None
    assert second is not None
    assert (first + second) / 2 == pytest.approx(result.final)  # equally many test images of each class


def test_equal_cells_give_equal_results_and_other_seeds_others(sets: Sets) -> None:
    harness = Harness(sets, SHORT, CPU)
    one, same, other = (harness.run(cell(seed=seed)) for seed in (0, 0, 1))
    assert replace(one, seconds=0) == replace(same, seconds=0)
    assert one.losses != other.losses


def test_a_partly_protected_release_is_released_where_protected_and_original_elsewhere(sets: Sets) -> None:
    mixed = material_of(sets, "released-25", seed=0).images
    protected = (mixed == sets.released.images).flatten(1).all(1)
    untouched = (mixed == sets.original.images).flatten(1).all(1)
    assert protected.sum() == 12
    assert bool((protected ^ untouched).all())
    rest = material_of(sets, "rest-25", seed=0).images
    assert torch.equal(rest, sets.original.images[untouched])


class Spy(Countermeasure):
    """Keep what a countermeasure is given."""

    def __init__(self, needed: int) -> None:
        self.needed = needed

    @property
    def clean_images(self) -> int:
        return self.needed

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, competitor: Competitor) -> torch.nn.Module:
        self.images, self.labels, self.competitor = images, labels, competitor
        return competitor.network


def test_clean_images_drawn_from_the_originals_leave_the_release(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(10)
    monkeypatch.setattr(training, "find", lambda _: spy)
    harness = Harness(sets, SHORT, CPU)
    monkeypatch.setattr(Harness, "config", lambda *_: {})
    harness.run(cell("released"))
    own = spy.competitor.clean
    assert own.labels.tolist().count(0) == own.labels.tolist().count(1) == 5
    positions = [(sets.original.images == image).flatten(1).all(1).nonzero().item() for image in own.images]
    left = [index for index in range(48) if index not in positions]
    assert torch.equal(spy.images, sets.released.images[left])
    assert torch.equal(spy.labels, sets.released.labels[left])


def test_clean_images_of_their_own_leave_the_release_whole(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(4)
    monkeypatch.setattr(training, "find", lambda _: spy)
    monkeypatch.setattr(Harness, "config", lambda *_: {})
    given = replace(sets, clean=sets.test)
    Harness(given, SHORT, CPU).run(cell("released"))
    assert torch.equal(spy.images, sets.released.images)
    assert len(spy.competitor.clean) == 4


class Diverging(Spy):
    """Fail as a training with an infinite loss does."""

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, competitor: Competitor) -> torch.nn.Module:  # noqa: ARG002
        raise Diverged("the loss is nan")


def test_a_diverged_training_is_recorded_as_such(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find", lambda _: Diverging(0))
    monkeypatch.setattr(Harness, "config", lambda *_: {})
    result = Harness(sets, SHORT, CPU).run(cell("released"))
    assert result.diverged == "the loss is nan"
    assert result.curve == ()


class Broken(Spy):
    """Return a network whose outputs are not numbers, as running statistics that overflowed make them."""

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, competitor: Competitor) -> torch.nn.Module:  # noqa: ARG002
        with torch.no_grad():
            next(competitor.network.parameters()).fill_(float("nan"))
        competitor.facts["epsilon"] = float("inf")
        return competitor.network


def test_a_network_of_nonsense_counts_as_diverged_and_not_as_guessing(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "find", lambda _: Broken(0))
    monkeypatch.setattr(Harness, "config", lambda *_: {})
    result = Harness(sets, SHORT, CPU).run(cell("released"))
    assert result.diverged is not None
    assert "not finite" in result.diverged
    assert result.facts == {"epsilon": "inf"}


def test_a_configuration_names_what_its_outcome_depends_on(sets: Sets) -> None:
    harness = Harness(sets, SHORT, CPU)
    config = harness.config(cell("released", "jpeg-10"))
    assert config["countermeasure"] == {"kind": "Jpeg", "quality": 10}
    assert config["recipe"]["epochs"] == 2
    assert config["data"] == {name: sets.digests[name] for name in ("released", "test")}
    assert harness.config(cell("released-20"))["data"].keys() == {"original", "released", "test"}
    assert harness.config(cell("noise"))["data"].keys() == {"noise", "test"}
    assert Harness(sets, EvaluateSettings(epochs=3), CPU).config(cell()) != harness.config(cell())


def test_what_was_drawn_by_another_seed_is_another_configuration(sets: Sets) -> None:
    # A second seed of `--seed 0 --seeds 2` is the first of `--seed 1`, but its clean images are drawn by seed 0.
    one, other = (Harness(sets, EvaluateSettings(epochs=2, seed=seed), CPU) for seed in (0, 1))
    assert one.config(cell(seed=1)) == other.config(cell(seed=1))
    for drawing in (cell("released-20", seed=1), cell("rest-20", seed=1), cell("released", "dilution-500", seed=1)):
        assert one.config(drawing) != other.config(drawing)


@pytest.mark.parametrize(
    ("material", "needed", "images"), [("rest-25", 0, 36), ("released-25", 0, 48), ("released", 10, 38)]
)
def test_a_configuration_states_the_recipe_that_is_used(
    sets: Sets, monkeypatch: pytest.MonkeyPatch, material: str, needed: int, images: int
) -> None:
    spy = Spy(needed)
    monkeypatch.setattr(training, "find", lambda _: spy)
    monkeypatch.setattr(training, "asdict", lambda value: vars(value) if value is spy else asdict(value))
    monkeypatch.setattr(training, "recipe_for", lambda _, count, **__: Recipe(epochs=count))
    harness = Harness(sets, EvaluateSettings(), CPU)
    config = harness.config(cell(material))
    harness.run(cell(material))
    assert len(spy.images) == spy.competitor.recipe.epochs == config["recipe"]["epochs"] == images


def test_the_reference_recipe_is_the_fields(sets: Sets) -> None:
    recipe = Harness(sets, EvaluateSettings(recipe="reference"), CPU).recipe("resnet9", 48)
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (120, 128, 0.1, 0.9)
    assert (recipe.weight_decay, recipe.schedule, recipe.label_smoothing, recipe.nesterov) == (5e-4, "steps", 0, False)
