from dataclasses import replace

import pytest
import torch
from tests.networks.conftest import stripes
from tests.online.protectors import generator
from torch import Tensor, nn
from torch.nn import functional as F

from withhold import craft
from withhold.errors import InvalidInput
from withhold.networks.training import Diverged, as_unit
from withhold.online.generator import Shape, slopes_at
from withhold.online.training import GeneratorRecipe, train_generator
from withhold.seeds import derive_seed

RADIUS = 8 / 255
SHAPE = Shape(2, RADIUS, width=8, blocks=1)


@pytest.mark.parametrize("size", [(16, 16), (7, 13), (1, 1), (33, 2)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_pictures_of_any_size_get_a_perturbation_of_their_own_size(size: tuple[int, int], stride: int) -> None:
    images = torch.rand(2, 3, *size)
    delta = generator(replace(SHAPE, stride=stride))(images, torch.randn(images.shape), torch.tensor([0, 1]))
    assert delta.shape == images.shape


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30])
def test_no_weights_exceed_the_radius(scale: float) -> None:
    images = torch.rand(4, 3, 16, 16)
    delta = generator(SHAPE, scale)(images, scale * torch.randn(images.shape), torch.tensor([0, 1, 0, 1]))
    assert delta.abs().max() <= RADIUS
    assert scale == 1 or delta.abs().max() > 0.99 * RADIUS


def test_the_label_the_image_and_the_slope_matter_and_its_scale_does_not() -> None:
    made, image, slope = generator(SHAPE), torch.rand(1, 3, 16, 16), torch.randn(1, 3, 16, 16)
    zero, one = (made(image, slope, torch.tensor([label])) for label in (0, 1))
    assert not torch.allclose(zero, one)
    assert not torch.allclose(zero, made(image.flip(3), slope, torch.tensor([0])))
    assert not torch.allclose(zero, made(image, slope.flip(3), torch.tensor([0])))
    for scale in (1e-20, 1e20):
        assert torch.allclose(zero, made(image, scale * slope, torch.tensor([0])), atol=1e-6)
    assert made(image, 0 * slope, torch.tensor([0])).isfinite().all()


def test_before_it_learned_anything_a_generator_steps_against_the_slope() -> None:
    images, slopes = torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    delta = generator(SHAPE, 0.0)(images, slopes, torch.tensor([0, 1]))
    assert torch.equal(delta.sign(), -slopes.sign())


def judge() -> nn.Module:
    """A classifier of stripes that needs no training: it compares neighbours in a row with neighbours in a column."""

    class Stripes(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            grey = images.mean(1)
            across, down = ((grey.diff(dim=axis) ** 2).mean((1, 2)) for axis in (2, 1))
            return 40 * torch.stack([down, across], 1)

    return Stripes().eval()


@pytest.mark.parametrize("size", [(16, 16), (20, 33), (9, 7)])
def test_slopes_are_those_of_the_loss_seen_through_the_networks_input(size: tuple[int, int]) -> None:
    images, labels = torch.rand(2, 3, *size, dtype=torch.float64), torch.tensor([0, 1])
    pixels = images.clone().requires_grad_()
    seen: Tensor = pixels
    if size != (16, 16):
        seen = F.interpolate(pixels, (16, 16), mode="bilinear", antialias=True, align_corners=False)
    loss = F.cross_entropy(judge()(seen), 1 - labels)
    (expected,) = torch.autograd.grad(loss, pixels)
    assert torch.allclose(slopes_at(craft.ClassTargeted(judge()), images, labels, 16), expected)


@pytest.mark.parametrize("change", [{"classes": 0}, {"radius": 0.0}, {"radius": 2.0}, {"blocks": 0}, {"stride": 0}])
def test_impossible_shapes_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="a generator needs"):
        replace(SHAPE, **change)  # type: ignore[arg-type]


def test_training_lowers_the_objective_on_images_it_never_saw() -> None:
    """By more than the plain step against the slope that a generator takes before it learned anything."""
    images, labels = stripes(96)
    unseen, truth = stripes(64, seed=1)
    objective, made, plain = craft.ClassTargeted(judge()), generator(SHAPE, 0.0), generator(SHAPE, 0.0)
    recipe = GeneratorRecipe(epochs=6, batch_size=16, lr=5e-3)
    history = train_generator(made, images, labels, objective, views=craft.ShiftFlip(), recipe=recipe, seed=0)
    assert not made.training
    clean = as_unit(unseen)
    slopes = objective.slope(clean, truth)
    with torch.no_grad():
        trained, stepped = ((clean + each(clean, slopes, truth)).clamp(0, 1) for each in (made, plain))
    untouched, before, after = (objective.losses(each, truth).mean().item() for each in (clean, stepped, trained))
    assert after < before < untouched
    assert untouched - after > 1.1 * (untouched - before)
    assert history[-1] < history[0]


def test_the_generators_gradient_is_that_of_the_loss_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step on one batch, against autograd through generator, view and network in one piece."""
    images, labels = stripes(8)
    network, made, same = judge(), generator(SHAPE), generator(SHAPE)
    taken: list[Tensor] = []
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: taken.extend(p.grad.clone() for p in self.param_groups[0]["params"])
    )
    recipe = GeneratorRecipe(epochs=1, batch_size=8)
    train_generator(made, images, labels, craft.ClassTargeted(network), views=craft.Unchanged(), recipe=recipe, seed=0)
    same.train()
    draws = torch.Generator().manual_seed(derive_seed(0, "generator"))
    order = torch.randperm(8, generator=draws)
    mirrored = torch.rand(8, generator=draws) < 0.5
    batch = as_unit(images[order])
    batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    slopes = craft.ClassTargeted(network).slope(batch, labels[order])
    inputs = (batch + same(batch, slopes, labels[order])).clamp(0, 1)
    loss = F.cross_entropy(network(inputs), (labels[order] + 1) % 2)
    expected = torch.autograd.grad(loss, list(same.parameters()))
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(taken, expected, strict=True))


def test_equal_seeds_train_equal_generators_and_leave_the_global_state_alone() -> None:
    images, labels = stripes(32)
    recipe = GeneratorRecipe(epochs=2, batch_size=8)
    found = []
    for seed in (0, 0, 1):
        made = generator(SHAPE)
        before = torch.get_rng_state()
        train_generator(
            made, images, labels, craft.ClassTargeted(judge()), views=craft.ShiftFlip(), recipe=recipe, seed=seed
        )
        assert torch.equal(torch.get_rng_state(), before)
        found.append(made.last.weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_any_objective_will_do() -> None:
    """The slope of alignment comes from forward mode; its value has no graph that reaches the generator."""
    images, labels = stripes(32)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    ).eval()
    direction = craft.mean_direction(network, [(as_unit(images), labels)])
    objective, made = craft.Alignment(network, direction, joint=False), generator(SHAPE)

    def inner_product() -> float:
        slopes = objective.slope(as_unit(images), labels)
        with torch.no_grad():
            delta = made(as_unit(images), slopes, labels)
        changed = (as_unit(images) + delta).clamp(0, 1)
        loss = F.cross_entropy(network(changed), labels)
        flat = torch.autograd.grad(loss, list(network.parameters()))
        return sum(float((g * t).sum()) for g, t in zip(flat, direction, strict=True))

    before = inner_product()
    recipe = GeneratorRecipe(epochs=20, batch_size=16, lr=1e-3)
    train_generator(made, images, labels, objective, views=craft.Unchanged(), recipe=recipe, seed=0)
    assert inner_product() > before


def test_training_without_images_or_without_end_is_refused() -> None:
    objective = craft.ClassTargeted(judge())
    none = torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)
    recipe = GeneratorRecipe(epochs=1)
    with pytest.raises(InvalidInput, match="trained on images"):
        train_generator(generator(SHAPE), *none, objective, views=craft.Unchanged(), recipe=recipe, seed=0)
    broken = generator(SHAPE)
    with torch.no_grad():
        broken.first.weight.fill_(torch.nan)
    with pytest.raises(Diverged):
        train_generator(broken, *stripes(8), objective, views=craft.Unchanged(), recipe=recipe, seed=0)
