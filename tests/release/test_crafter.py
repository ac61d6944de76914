from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.networks.tensor_data import TensorData
from withhold.release.batch import Batch
from withhold.release.crafter import (
    EVERY_CLASS,
    OBJECTIVES,
    PENALTIES,
    RULES,
    SCHEDULES,
    STARTS,
    Labelled,
    prepare_crafter,
)
from withhold.release.settings import ProtectSettings
from withhold.release.trained_on import MIN_MIN_STEPS

CLASSES = 3


def small_network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, CLASSES),
        )
    return network.eval()


def picture(height: int, width: int, channels: int = 3, *, seed: int = 0, deep: bool = False) -> Picture:
    draw = np.random.default_rng(seed)
    top, kind = (65535, np.uint16) if deep else (255, np.uint8)
    return Picture(draw.integers(0, top, (height, width, channels), endpoint=True).astype(kind))


def settings(**chosen: object) -> ProtectSettings:
    return ProtectSettings.model_validate({"steps": 3, "step_size": 0.5, **chosen})


def no_images(_: int) -> list[Labelled]:
    raise AssertionError("the whole set is not needed")


PICTURES = [picture(8, 8, seed=index) for index in range(6)]
LABELS = [0, 1, 2, 0, 1, 2]


def labelled(key: int) -> list[Labelled]:
    chosen = [index for index, label in enumerate(LABELS) if key in (EVERY_CLASS, label)]
    return [([PICTURES[index]], [LABELS[index]]) for index in chosen]


@pytest.mark.parametrize("objective", ["class-targeted", "alignment"])
@pytest.mark.parametrize("direction", ["dataset", "batch", "class"])
@pytest.mark.parametrize("form", ["joint", "decoupled"])
@pytest.mark.parametrize("members", [1, 2])
def test_every_combination_crafts_within_the_ball_and_lowers_its_loss(
    objective: str, direction: str, form: str, members: int
) -> None:
    chosen = settings(objective=objective, direction=direction, form=form, steps=12, step_size=0.25)
    networks = [small_network(seed) for seed in range(members)]
    crafter = prepare_crafter(networks, chosen, labelled, present=range(CLASSES))
    crafted = crafter(PICTURES, LABELS, seed=1)
    untouched = prepare_crafter(
        networks, chosen.model_copy(update={"step_size": 1e-9, "start": "zero"}), labelled, present=range(CLASSES)
    )
    before = untouched(PICTURES, LABELS, seed=1)
    for delta, original in zip(crafted.deltas, PICTURES, strict=True):
        assert delta.shape == (3, 8, 8)
        assert np.abs(delta).max() <= float(chosen.eps) + 1e-7
        assert (original.unit() + delta).min() >= 0
        assert (original.unit() + delta).max() <= 1
    if (objective, form) != ("alignment", "decoupled"):  # that form lowers the inner product, not the cosine
        assert np.mean(crafted.losses) < np.mean(before.losses)
    assert (crafted.sign_agreement is None) == (objective == "class-targeted")


@pytest.mark.parametrize("objective", ["error-maximising", "error-minimising", "gradient-norm"])
def test_the_objectives_of_other_methods_lower_their_own_loss(objective: str) -> None:
    network, labels = small_network(), torch.tensor(LABELS)
    clean = torch.stack([torch.from_numpy(one.unit()) for one in PICTURES])

    def own_loss(images: Tensor) -> float:
        loss = nn.functional.cross_entropy(network(images), labels)
        if objective == "gradient-norm":
            return flat_gradient(loss, network).square().sum().sqrt().item()
        return loss.item() if objective == "error-minimising" else -loss.item()

    chosen = settings(objective=objective, steps=10, step_size=0.25, augment="none")
    crafted = prepare_crafter([network], chosen, no_images, present=range(CLASSES))(PICTURES, LABELS, seed=1)
    released = clean + torch.stack([torch.from_numpy(delta) for delta in crafted.deltas])
    assert own_loss(released) < own_loss(clean)
    assert np.mean(crafted.losses) == pytest.approx(own_loss(released), rel=1e-4)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_weight_lowers_its_penalty_and_leaves_the_reported_loss_the_objectives_own(name: str) -> None:
    """Pictures of two sizes, so that some are padded; the weights make the penalty all that counts."""
    pictures = [picture(12, 16), picture(16, 11, seed=1)]
    chosen = settings(steps=10, schedule="linear")
    measured, losses = [], []
    for weight in (0.0, 1e4):
        weighted = chosen.model_copy(update={name: weight})
        crafter = prepare_crafter([small_network()], weighted, no_images, present=range(CLASSES), crop_size=8)
        crafted = crafter(pictures, [0, 1], seed=0)
        losses.append(np.mean(crafted.losses))
        images, deltas = ([torch.from_numpy(one)[None] for one in some] for some in (
            [one.unit() for one in pictures], crafted.deltas))  # fmt: skip
        measured.append(sum(PENALTIES[name].losses(*pair).item() for pair in zip(images, deltas, strict=True)))
    assert measured[1] < 0.5 * measured[0]
    assert losses[0] < losses[1] < 10


def test_a_padded_picture_is_penalised_as_if_it_were_alone() -> None:
    """From no change and without random views nothing else depends on the company that a picture is in."""
    chosen = settings(augment="none", start="zero", ssim=1e4)
    crafter = prepare_crafter([small_network()], chosen, no_images, present=range(CLASSES), crop_size=8)
    small, large = picture(16, 11, seed=1), picture(20, 20)
    alone, beside = crafter([small], [1], seed=0).deltas[0], crafter([small, large], [1, 0], seed=0).deltas[0]
    assert (np.abs(alone - beside) < 1e-6).mean() > 0.995


def test_restarts_are_compared_with_the_penalty() -> None:
    """Of two starts, one is far larger; a heavy weight on the norm keeps the smaller one of each image."""
    found = []
    for count in (1, 2, 3):
        chosen = settings(restarts=count, steps=1, step_size=1e-6, l2=1e6)
        crafted = prepare_crafter([small_network()], chosen, no_images, present=range(CLASSES))(PICTURES, LABELS, 3)
        found.append([float((delta**2).sum()) for delta in crafted.deltas])
    assert all(more <= fewer for fewer, more in zip(found[0], found[1], strict=True))
    assert all(more <= fewer for fewer, more in zip(found[1], found[2], strict=True))
    assert found[2] != found[0]


def test_equal_seeds_give_equal_results_whatever_was_crafted_before() -> None:
    crafter = prepare_crafter([small_network()], settings(restarts=2), no_images, present=range(CLASSES))
    first = crafter(PICTURES, LABELS, seed=5)
    crafter(PICTURES[:2], LABELS[:2], seed=9)
    again = crafter(PICTURES, LABELS, seed=5)
    other = crafter(PICTURES, LABELS, seed=6)
    assert all(np.array_equal(a, b) for a, b in zip(first.deltas, again.deltas, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first.deltas, other.deltas, strict=True))


def test_more_restarts_are_never_worse_for_any_image() -> None:
    one, three = (
        prepare_crafter([small_network()], settings(restarts=count, steps=1), no_images, present=range(CLASSES))(
            PICTURES, LABELS, 3
        )
        for count in (1, 3)
    )
    assert all(more <= single for more, single in zip(three.losses, one.losses, strict=True))
    assert three.losses != one.losses


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_sizes_and_grey_pictures_are_crafted_at_their_own_size(channels: int) -> None:
    pictures = [picture(40, 60, channels), picture(33, 21, channels, seed=1), picture(60, 18, channels, seed=2)]
    crafter = prepare_crafter([small_network()], settings(steps=30), no_images, present=range(CLASSES), crop_size=16)
    crafted = crafter(pictures, [0, 1, 2], seed=0)
    for delta, original in zip(crafted.deltas, pictures, strict=True):
        assert delta.shape == original.unit().shape
        assert np.abs(delta[:, -1, -1]).max() > 0  # the far corner is the picture's own, not padding


def test_sixteen_bit_pictures_are_crafted_on_the_unit_range() -> None:
    deep = picture(8, 8, 1, deep=True)
    crafter = prepare_crafter([small_network()], settings(), no_images, present=range(CLASSES))
    crafted = crafter([deep], [0], seed=0)
    assert np.abs(crafted.deltas[0]).max() <= 8 / 255 + 1e-7


def test_alignments_average_to_the_cosine_of_the_batch() -> None:
    """Against autograd's own flat gradients, for the objective that does not use them."""
    network = small_network()
    chosen = settings(augment="none")
    crafted = prepare_crafter([network], chosen, no_images, present=range(CLASSES))(PICTURES, LABELS, seed=2)
    clean = torch.stack([torch.from_numpy(one.unit()) for one in PICTURES])
    released = clean + torch.stack([torch.from_numpy(delta) for delta in crafted.deltas])
    labels = torch.tensor(LABELS)
    p_label = network(clean).softmax(1)[range(6), labels]
    direction = flat_gradient(-torch.log(1 - p_label).mean(), network)
    training = flat_gradient(nn.functional.cross_entropy(network(released), labels), network)
    cosine = torch.nn.functional.cosine_similarity(training, direction, dim=0)
    assert np.mean(crafted.alignments) == pytest.approx(cosine.item(), rel=1e-4)


def flat_gradient(loss: Tensor, network: nn.Module) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(network.parameters()))])


def test_a_class_direction_is_taken_over_that_class_only() -> None:
    asked: list[int] = []

    def remember(key: int) -> list[Labelled]:
        asked.append(key)
        return labelled(key)

    chosen = settings(objective="alignment", direction="class")
    prepare_crafter([small_network()], chosen, remember, present=range(CLASSES))
    assert asked == [0, 1, 2]


def test_a_class_without_pictures_needs_no_direction() -> None:
    chosen = settings(objective="alignment", direction="class")
    crafter = prepare_crafter([small_network()], chosen, labelled, present=[0, 2])
    assert set(crafter.surrogates[0].directions) == {0, 2}


def test_a_surrogate_without_doubt_leaves_the_alignment_unknown() -> None:
    """Where p_y of every image rounds to 0, the reverse cross-entropy has no slope to align with."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)).eval()
    linear = network[1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.mul_(1e-3)
        linear.bias.copy_(torch.tensor([0.0, 1e4, 0.0]))
    crafted = prepare_crafter([network], settings(start="uniform"), no_images, present=range(CLASSES))(
        PICTURES[:1], [0], 0
    )
    assert np.isnan(crafted.alignments).all()
    assert np.isfinite(crafted.losses).all()


def test_every_name_in_the_settings_has_its_entry_in_a_table() -> None:
    tables = {"objective": OBJECTIVES, "schedule": SCHEDULES, "optimizer": RULES, "start": STARTS}
    for field, table in tables.items():
        assert set(get_args(ProtectSettings.model_fields[field].annotation)) == set(table)
    assert set(PENALTIES) <= set(ProtectSettings.model_fields)


def test_padding_is_no_part_of_a_batch() -> None:
    batch = Batch.of([picture(4, 6), picture(5, 3)], [0, 1], torch.device("cpu"))
    assert batch.images.shape == (2, 3, 5, 6)
    assert batch.region is not None
    assert batch.region[0, 0].sum() == 24
    assert batch.region[1, 0, :5, :3].all()
    assert [array.shape for array in batch.unpad(batch.images)] == [(3, 4, 6), (3, 5, 3)]
    assert np.array_equal(batch.unpad(batch.images)[1], picture(5, 3).unit())


def test_pictures_of_one_size_need_no_region() -> None:
    assert Batch.of(PICTURES, LABELS, torch.device("cpu")).region is None


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "gradient-norm"])
def test_every_objective_takes_the_margin_that_the_surrogate_was_trained_by(objective: str) -> None:
    """With a margin that makes every class as likely as any other, losses are those of guessing."""
    network = small_network()
    network.margin = lambda logits, _: 0 * logits  # type: ignore[assignment]
    chosen = settings(objective=objective, direction="batch", start="zero")
    if objective == "alignment":  # there is no gradient left that could give a direction
        with pytest.raises(InvalidInput, match="finite gradient above 0"):
            prepare_crafter([network], chosen, no_images, present=range(CLASSES))(PICTURES, LABELS, seed=0)
        return
    crafted = prepare_crafter([network], chosen, no_images, present=range(CLASSES))(PICTURES, LABELS, seed=0)
    assert np.abs(crafted.losses) == pytest.approx(np.log(CLASSES))
    assert np.isnan(crafted.alignments).all()


def test_a_min_min_surrogate_is_trained_against_its_own_margin_loss() -> None:
    asked: list[torch.Tensor] = []
    network = small_network()

    def margin(logits: Tensor, labels: Tensor) -> Tensor:
        asked.append(labels)
        return logits

    network.margin = margin  # type: ignore[assignment]
    data = TensorData(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]), CLASSES)
    batches = OBJECTIVES["error-minimising"].trained_on.images(data, network, settings())
    list(batches.epoch(2, torch.Generator().manual_seed(0)))
    assert len(asked) == 2 * MIN_MIN_STEPS
