from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.faces.people import BOUND, PEOPLE, SIDE, TESTED, TINY, folders, write
from torch import Tensor, nn

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Means, OnEpoch
from withhold.evaluation.faces.data import FaceSets, load_faces, open_others
from withhold.evaluation.faces.elsewhere import Given
from withhold.evaluation.faces.harness import FaceHarness, Pretrainer
from withhold.evaluation.faces.pairs import read_pairs
from withhold.evaluation.faces.results import FaceCell
from withhold.evaluation.faces.roles import Roles, drawn_share, halves, of_people
from withhold.evaluation.faces.scenarios.table import SCENARIOS
from withhold.evaluation.faces.settings import FaceSettings
from withhold.evaluation.matching import Sources, choose_images
from withhold.networks.classifier import Classifier
from withhold.networks.recipe import recipe_for
from withhold.networks.training import Diverged, EpochResult

CPU = torch.device("cpu")
SETTINGS = FaceSettings(epochs=2, network=TINY, device="cpu", distractors=(5, 10, 1000), old_share=34)
JUDGE = "tests.evaluation.faces.people:judge"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> FaceSets:
    data = folders(tmp_path_factory.mktemp("faces"))
    chosen = choose_images(Sources(data.originals, data.released, data.test), SETTINGS)
    return load_faces(chosen, None, read_pairs(data.pairs), side=SIDE, size=SIDE, bound=BOUND, seed=0)


@pytest.fixture
def harness(sets: FaceSets, tmp_path: Path) -> FaceHarness:
    return FaceHarness(sets, SETTINGS, TINY, tmp_path / "pretrained", CPU)


def cell(scenario: str, material: str = "released", head: str = "softmax", seed: int = 0) -> FaceCell:
    return FaceCell(scenario, material, head, TINY, seed)


@dataclass
class Training:
    """What one training got."""

    classes: int
    pictures: Labelled
    fine_tuned: bool


@dataclass
class Spy:
    """Stands in for training: keeps what it is given, and leaves the network as it is."""

    trainings: list[Training]
    competitors: list[FaceCompetitor]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    found = Spy([], [])

    def train(
        means: Means,
        network: Classifier,
        pictures: Labelled,
        *,
        fine_tuned: bool = False,
        on_epoch: OnEpoch | None = None,
    ) -> Classifier:
        del means, on_epoch
        found.trainings.append(Training(network.classes, pictures, fine_tuned))
        return network.eval()

    def watched(harness: FaceHarness, *given: object) -> tuple[Labelled, FaceCompetitor]:
        published, competitor = built(harness, *given)  # type: ignore[arg-type]
        found.competitors.append(competitor)
        return published, competitor

    built = FaceHarness._given
    monkeypatch.setattr(Means, "train", train)
    monkeypatch.setattr(FaceHarness, "_given", watched)
    return found


def pretrained(harness: FaceHarness, of: FaceCell) -> FaceHarness:
    task = harness.pretraining(of)
    if task is not None:
        Pretrainer(harness, CPU).run(task)
    return harness


def same(one: Labelled, other: Labelled) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("material", ["original", "noise", "released"])
def test_alone_trains_on_what_was_published_and_nothing_else(harness: FaceHarness, spy: Spy, material: str) -> None:
    harness.run(cell("alone", material))
    (training,) = spy.trainings
    assert training.classes == PEOPLE
    assert same(training.pictures, harness.sets.published(material))


@pytest.mark.parametrize("material", ["original", "noise", "released"])
def test_mixed_adds_clean_pictures_of_others_as_further_people(harness: FaceHarness, spy: Spy, material: str) -> None:
    harness.run(cell("mixed", material))
    (training,) = spy.trainings
    own, others = halves(PEOPLE, seed=0)
    published = of_people(harness.sets.published(material), own)
    further = of_people(harness.sets.original, others)
    assert training.classes == PEOPLE
    assert torch.equal(training.pictures.images, torch.cat([published.images, further.images]))
    assert torch.equal(training.pictures.labels, torch.cat([published.labels, further.labels + len(own)]))


@pytest.mark.parametrize("material", ["original", "released"])
def test_fine_tuned_learns_on_others_first_then_on_what_was_published(
    harness: FaceHarness, spy: Spy, material: str
) -> None:
    pretrained(harness, cell("fine-tuned", material)).run(cell("fine-tuned", material))
    before, after = spy.trainings
    own, others = halves(PEOPLE, seed=0)
    assert same(before.pictures, of_people(harness.sets.original, others))
    assert same(after.pictures, of_people(harness.sets.published(material), own))
    assert (before.fine_tuned, after.fine_tuned) == (False, True)
    assert (before.classes, after.classes) == (len(others), len(own))


def test_immune_learns_on_both_versions_of_others_under_one_name(harness: FaceHarness, spy: Spy) -> None:
    pretrained(harness, cell("immune")).run(cell("immune"))
    before, after = spy.trainings
    own, others = halves(PEOPLE, seed=0)
    clean, released = (of_people(part, others) for part in (harness.sets.original, harness.sets.released))
    assert torch.equal(before.pictures.images, torch.cat([clean.images, released.images]))
    assert torch.equal(before.pictures.labels, torch.cat([clean.labels, clean.labels]))
    assert same(after.pictures, of_people(harness.sets.released, own))


def test_a_stranger_never_trains_on_the_owners_people(harness: FaceHarness, spy: Spy) -> None:
    result = pretrained(harness, cell("stranger")).run(cell("stranger"))
    (before,) = spy.trainings
    _, others = halves(PEOPLE, seed=0)
    assert same(before.pictures, of_people(harness.sets.original, others))
    assert result.curve == ()


@pytest.mark.parametrize(("share", "each"), [(34, 2), (50, 3)])
@pytest.mark.parametrize("material", ["original", "noise", "released"])
def test_old_releases_have_their_share_clean_and_the_rest_as_published(
    harness: FaceHarness, spy: Spy, material: str, share: int, each: int
) -> None:
    harness = replace(harness, settings=SETTINGS.model_copy(update={"old_share": share}))
    harness.run(cell("old-releases", material))
    (training,) = spy.trainings
    sets = harness.sets
    old = drawn_share(sets.original.labels, share, seed=0)
    assert sets.original.labels[old].bincount().tolist() == [each] * PEOPLE
    rest = sets.published(material).take(~old)
    assert same(training.pictures, rest.joined(sets.original.take(old)))


def test_old_alone_has_only_the_older_pictures_as_often_as_all_would_pass(harness: FaceHarness, spy: Spy) -> None:
    harness.run(cell("old-alone", "original"))
    (training,) = spy.trainings
    sets = harness.sets
    old = sets.original.take(drawn_share(sets.original.labels, 34, seed=0))
    assert len(training.pictures) == len(sets.original)
    rounds = torch.arange(len(sets.original)) % len(old)
    assert same(training.pictures, old.take(rounds))


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_no_competitor_gets_test_pictures_or_pairs(harness: FaceHarness, spy: Spy, scenario: str) -> None:
    pretrained(harness, cell(scenario)).run(cell(scenario))
    (competitor,) = spy.competitors
    sets = harness.sets
    assert sets.pairs is not None
    unseen = {image.numpy().tobytes() for part in (sets.test.images, sets.pairs.images) for image in part}
    held = [*tensors(competitor), *(training.pictures.images for training in spy.trainings)]
    assert not unseen & {image.numpy().tobytes() for tensor in held if tensor.ndim == 4 for image in tensor}


def tensors(value: object) -> Iterator[Tensor]:
    """Yield every tensor that an object holds in its fields."""
    if isinstance(value, Tensor):
        yield value
    elif hasattr(value, "__dataclass_fields__"):
        for each in fields(value):  # type: ignore[arg-type]
            yield from tensors(getattr(value, each.name))


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if not name.startswith("old")])
def test_no_competitor_gets_the_originals_of_what_was_published(harness: FaceHarness, spy: Spy, scenario: str) -> None:
    pretrained(harness, cell(scenario)).run(cell(scenario))
    roles = harness.roles(SCENARIOS[scenario])
    originals = {image.numpy().tobytes() for image in roles.published("original").images}
    held = [*tensors(spy.competitors[0]), *(training.pictures.images for training in spy.trainings)]
    assert not originals & {image.numpy().tobytes() for tensor in held if tensor.ndim == 4 for image in tensor}


def test_the_gallery_is_what_the_competitor_has(harness: FaceHarness, spy: Spy) -> None:
    assert spy.trainings == []
    enrolled = {}
    for scenario in ("alone", "old-releases", "old-alone", "mixed"):
        result = harness.run(cell(scenario))
        assert result.identification is not None
        assert result.clean_gallery is not None
        enrolled[scenario] = (result.identification.enrolled, result.clean_gallery.enrolled, result.identities)
    assert enrolled == {
        "alone": (48, 48, 8),
        "old-releases": (48, 48, 8),
        "old-alone": (16, 48, 8),
        "mixed": (24, 24, 4),
    }


def test_the_gallery_of_the_release_and_that_of_the_originals_are_told_apart(harness: FaceHarness) -> None:
    # Released pictures of each person are those of the next one: looked up among them, everyone is taken for another.
    sets = harness.sets
    shifted = Labelled(sets.original.images, (sets.original.labels + 1) % PEOPLE)
    order = shifted.labels.argsort(stable=True)
    swapped = replace(sets, released=Labelled(shifted.images[order], sets.original.labels))
    given = replace(harness, sets=swapped, extractor=(Given(JUDGE, SIDE), "digest"))
    result = given.run(FaceCell("stranger", "released", "given", JUDGE, 0))
    assert result.identification is not None
    assert result.clean_gallery is not None
    assert result.clean_gallery.rank1 >= 0.9
    assert result.identification.rank1 <= 0.1


def test_a_recogniser_is_measured_in_every_way(harness: FaceHarness) -> None:
    given = replace(harness, extractor=(Given(JUDGE, SIDE), "digest"))
    result = given.run(FaceCell("stranger", "original", "given", JUDGE, 0))
    found, checked = result.identification, result.verification
    assert found is not None
    assert checked is not None
    assert (found.probes, result.identities, result.chance) == (PEOPLE * TESTED, PEOPLE, 1 / PEOPLE)
    assert found.rank1 <= found.rank5 <= 1
    # Of the numbers asked for, 1000 is more than there are; all there are take part.
    assert [count for count, _ in found.crowd] == [5, 10, 24]
    assert [rate for _, rate in found.crowd] == sorted((rate for _, rate in found.crowd), reverse=True)
    assert checked.pairs == 48
    assert 0.9 <= checked.auc <= 1
    assert len(checked.accepts) == 3
    assert len(checked.roc) <= 200
    assert (checked.roc[0], checked.roc[-1]) == ((0.0, 0.0), (1.0, 1.0))


def test_without_pairs_there_is_neither_verification_nor_a_crowd(harness: FaceHarness) -> None:
    result = replace(harness, sets=replace(harness.sets, pairs=None)).run(cell("untrained"))
    assert result.verification is None
    assert result.identification is not None
    assert result.identification.crowd == ()


class Distracted(Classifier):
    """Give every picture its own person's class, but rather that of a person behind the owner's."""

    def __init__(self, test: Labelled, identities: int) -> None:
        nn.Module.__init__(self)
        self.unused = nn.Parameter(torch.zeros(1))
        self.test, self.identities = test, identities

    def forward(self, images: Tensor) -> Tensor:
        rows = [int((self.test.images == image).flatten(1).all(1).nonzero()[0]) for image in (images * 255).round()]
        logits = torch.zeros(len(images), self.identities + 1)
        logits[torch.arange(len(images)), self.test.labels[rows]] = 1.0
        logits[:, self.identities] = 2.0
        return logits


def test_a_head_is_tested_among_the_owners_people(harness: FaceHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    test = harness.roles(SCENARIOS["mixed"]).test

    def train(
        means: Means, network: Classifier, pictures: Labelled, *, fine_tuned: bool = False, on_epoch: OnEpoch
    ) -> Classifier:
        del means, pictures, fine_tuned
        on_epoch(Distracted(test, int(test.labels.max()) + 1), EpochResult(1, 0.5, 0.5))
        return network.eval()

    monkeypatch.setattr(Means, "train", train)
    result = harness.run(cell("mixed"))
    assert (result.curve, result.losses) == ((1.0,), (0.5,))


def test_a_trained_head_is_tested_after_each_epoch(harness: FaceHarness) -> None:
    longer = replace(harness, settings=SETTINGS.model_copy(update={"epochs": 30}))
    for scenario in ("alone", "mixed"):
        result = longer.run(cell(scenario, "original"))
        assert len(result.curve) == len(result.losses) == 30
        assert result.best_head is not None
        assert result.best_head >= 0.8
        assert result.losses[-1] < result.losses[0]


def test_equal_cells_give_equal_results_and_other_seeds_others(harness: FaceHarness) -> None:
    one, again, other = (harness.run(cell("alone", seed=seed)) for seed in (0, 0, 1))
    assert replace(one, seconds=0) == replace(again, seconds=0)
    assert one.losses != other.losses


def test_training_on_others_again_gives_the_same_bytes(harness: FaceHarness, tmp_path: Path) -> None:
    task = harness.pretraining(cell("immune", head="arcface"))
    assert task is not None
    first = Pretrainer(harness, CPU).run(task)
    again = Pretrainer(replace(harness, pretrained=tmp_path / "again"), CPU).run(task)
    assert first.name == again.name
    assert first.read_bytes() == again.read_bytes()
    other = harness.pretraining(cell("immune", head="arcface", seed=1))
    assert other is not None
    assert Pretrainer(harness, CPU).run(other).read_bytes() != first.read_bytes()


def test_all_materials_of_a_scenario_share_one_training_on_others(harness: FaceHarness) -> None:
    weights = {
        (scenario, head): {
            harness.weights(task)
            for material in ("original", "noise", "released")
            if (task := harness.pretraining(cell(scenario, material, head)))
        }
        for scenario in ("fine-tuned", "immune", "stranger")
        for head in ("softmax", "cosface")
    }
    assert all(len(files) == 1 for files in weights.values())
    assert weights["fine-tuned", "softmax"] == weights["stranger", "softmax"]
    assert len({file for files in weights.values() for file in files}) == 4


def test_a_recogniser_from_elsewhere_is_the_one_that_was_kept(harness: FaceHarness) -> None:
    of = cell("stranger")
    task = harness.pretraining(of)
    assert task is not None
    Pretrainer(harness, CPU).run(task)
    before = harness.run(of)
    other = replace(harness, settings=SETTINGS.model_copy(update={"epochs": 40}))
    Pretrainer(other, CPU).run(task).rename(harness.weights(task))
    after = harness.run(of)
    assert before.verification != after.verification


def test_a_given_recogniser_is_fine_tuned_on_everyone(harness: FaceHarness, spy: Spy) -> None:
    given = replace(harness, extractor=(Given(JUDGE, SIDE), "digest"))
    given.run(FaceCell("fine-tuned", "released", "softmax", JUDGE, 0))
    (training,) = spy.trainings
    assert same(training.pictures, harness.sets.released)
    assert (training.classes, training.fine_tuned) == (PEOPLE, True)
    assert given.pretraining(FaceCell("fine-tuned", "released", "softmax", JUDGE, 0)) is None
    assert given.pretraining(cell("immune")) is not None


def test_others_who_are_given_are_learnt_from(harness: FaceHarness, spy: Spy, tmp_path: Path) -> None:
    place = write(tmp_path / "others", range(40, 43), range(4))
    part = open_others(place, harness.sets.identities)
    labels = torch.from_numpy(part.labels)
    pictures = torch.stack([torch.from_numpy(p.levels).permute(2, 0, 1) for p in part.pictures(np.arange(len(part)))])
    others = Labelled(pictures, labels)
    digests = {**harness.sets.digests, "others": "d"}
    with_others = replace(harness, sets=replace(harness.sets, others=others, digests=digests))
    pretrained(with_others, cell("fine-tuned")).run(cell("fine-tuned"))
    before, after = spy.trainings
    assert same(before.pictures, others)
    assert same(after.pictures, harness.sets.released)


@pytest.mark.parametrize(
    "change", [{"epochs": 3}, {"seed": 1}, {"distractors": (5,)}, {"old_share": 50}, {"compiled": True}]
)
def test_what_an_outcome_depends_on_is_in_its_configuration(harness: FaceHarness, change: dict[str, object]) -> None:
    other = replace(harness, settings=SETTINGS.model_copy(update=change))
    assert harness.config(cell("old-releases")) != other.config(cell("old-releases"))


def test_a_result_depends_on_the_pictures_that_it_used(harness: FaceHarness) -> None:
    def changed(name: str) -> FaceHarness:
        return replace(harness, sets=replace(harness.sets, digests={**harness.sets.digests, name: "other"}))

    for scenario, material, used in (
        ("alone", "released", {"original", "released", "test", "pairs"}),
        ("alone", "noise", {"original", "noise", "test", "pairs"}),
        ("immune", "original", {"original", "released", "test", "pairs"}),
    ):
        of = cell(scenario, material)
        found = {name for name in harness.sets.digests if changed(name).config(of) != harness.config(of)}
        assert found == used


def test_a_diverged_training_is_a_result(harness: FaceHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(*_: object, **__: object) -> Classifier:
        raise Diverged("the loss is nan")

    monkeypatch.setattr(Means, "train", diverging)
    result = harness.run(cell("alone"))
    assert (result.diverged, result.identification, result.best) == ("the loss is nan", None, None)


def test_what_learns_from_a_training_on_others_that_diverged_has_diverged_too(
    harness: FaceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(*_: object, **__: object) -> Classifier:
        raise Diverged("the loss is nan")

    task = harness.pretraining(cell("stranger"))
    assert task is not None
    with monkeypatch.context() as patched:
        patched.setattr(Means, "train", diverging)
        assert not Pretrainer(harness, CPU).run(task).exists()
    for scenario in ("stranger", "fine-tuned"):
        result = harness.run(cell(scenario))
        assert result.diverged == "its training on other people diverged"
        assert result.best is None
    assert harness.run(cell("alone")).diverged is None


def test_counting_other_people_does_not_copy_their_pictures(
    harness: FaceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = {
        scenario: len(harness.learnt_from(task.learnt))
        for scenario in ("stranger", "immune")
        if (task := harness.pretraining(cell(scenario)))
    }
    assert counted["immune"] == 2 * counted["stranger"]
    monkeypatch.setattr(Roles, "others", property(lambda _: pytest.fail("pictures were taken")))
    for scenario, count in counted.items():
        task = harness.pretraining(cell(scenario))
        assert task is not None
        epochs = harness.pretraining_config(task)["recipe"]["epochs"]
        assert epochs == recipe_for(TINY, count, epochs=SETTINGS.epochs).epochs
        harness.config(cell(scenario))


def test_a_trained_network_whose_embeddings_are_not_finite_diverged(
    harness: FaceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Means, network: Classifier, *__: object, **___: object) -> Classifier:
        for parameter in network.parameters():
            parameter.data.fill_(float("nan"))
        return network.eval()

    monkeypatch.setattr(Means, "train", broken)
    result = harness.run(cell("alone"))
    assert result.diverged is not None
    assert "not finite" in result.diverged
