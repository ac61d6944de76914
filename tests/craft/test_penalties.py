from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.craft.conftest import make_batch, make_network
from torch import Tensor

from withhold.craft import (
    ClassTargeted,
    Dissimilarity,
    Linf,
    Penalties,
    Penalty,
    SquaredL2,
    TotalVariation,
    Unpadded,
    craft,
    linear_steps,
)
from withhold.craft.augment import Augmentation
from withhold.craft.steps import Start, uniform_start, zero_start
from withhold.data.pixels import Picture
from withhold.data.quality import ssim as reported_ssim

ALL: dict[str, Penalty] = {"l2": SquaredL2(), "total_variation": TotalVariation(), "ssim": Dissimilarity()}


def perturbation(images: Tensor, *, seed: int = 1, radius: float = 0.1) -> Tensor:
    draw = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed), dtype=images.dtype)
    return (2 * draw - 1) * radius


def l2_by_numpy(_: np.ndarray, delta: np.ndarray) -> float:
    return float(sum(value * value for value in delta.flatten()))


def variation_by_numpy(_: np.ndarray, delta: np.ndarray) -> float:
    return float(np.abs(np.diff(delta, axis=1)).sum() + np.abs(np.diff(delta, axis=2)).sum())


def dissimilarity_by_numpy(image: np.ndarray, delta: np.ndarray) -> float:
    """1 - SSIM by its formula, one window at a time: Wang et al. 2004, with k1 = 0.01 and k2 = 0.03."""
    side = min(11, *image.shape[1:])
    side -= 1 - side % 2
    reach, taps = side // 2, np.arange(side) - side // 2
    weights = np.exp(-(taps[:, None] ** 2 + taps[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    border = ((reach, reach), (reach, reach))
    values = []
    for x, y in zip(image, image + delta, strict=True):
        padded = np.pad(x, border, mode="reflect"), np.pad(y, border, mode="reflect")
        for row in range(x.shape[0]):
            for column in range(x.shape[1]):
                a, b = (part[row : row + side, column : column + side] for part in padded)
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * a**2).sum() - mean_a**2, (weights * b**2).sum() - mean_b**2
                both = (weights * a * b).sum() - mean_a * mean_b
                upper = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
                values.append(upper / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return 1 - float(np.mean(values))


FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "l2": l2_by_numpy,
    "total_variation": variation_by_numpy,
    "ssim": dissimilarity_by_numpy,
}


@pytest.mark.parametrize("name", ALL)
def test_losses_follow_the_formula(name: str) -> None:
    images, _ = make_batch(3)
    delta = perturbation(images)
    expected = [FORMULAS[name](image.numpy(), part.numpy()) for image, part in zip(images, delta, strict=True)]
    assert ALL[name].losses(images, delta).tolist() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_slopes_are_those_of_the_mean_by_finite_differences(name: str) -> None:
    images, _ = make_batch(2)
    images, delta = images[:, :2, :5, :6], perturbation(images[:, :2, :5, :6])
    slope, small = ALL[name].slope(images, delta), 1e-6
    assert slope.shape == delta.shape
    for index in map(tuple, np.random.default_rng(0).integers(0, delta.shape, (20, 4))):
        nudge = torch.zeros_like(delta)
        nudge[index] = small
        above, below = (ALL[name].losses(images, delta + sign * nudge).mean() for sign in (1, -1))
        assert slope[index].item() == pytest.approx(((above - below) / (2 * small)).item(), abs=1e-7)


def test_the_slope_of_the_squared_norm_is_known() -> None:
    images, _ = make_batch(4)
    delta = perturbation(images)
    assert torch.allclose(SquaredL2().slope(images, delta), 2 * delta / 4)


@pytest.mark.parametrize("name", ALL)
def test_nothing_changed_costs_nothing(name: str) -> None:
    images, _ = make_batch(2)
    nothing = torch.zeros_like(images)
    assert ALL[name].losses(images, nothing).abs().max() < 1e-6
    assert ALL[name].slope(images, nothing).abs().max() < 1e-6


def test_an_even_shift_has_no_variation_but_a_norm() -> None:
    images, _ = make_batch(2)
    even = torch.full_like(images, 0.1)
    assert TotalVariation().losses(images, even).tolist() == [0, 0]
    assert SquaredL2().losses(images, even).tolist() == pytest.approx([1.92, 1.92])


def test_dissimilarity_is_what_the_manifest_reports() -> None:
    draw = np.random.default_rng(0)
    before = [Picture(draw.integers(0, 250, (20, 24, 3), np.uint8)) for _ in range(2)]
    after = [Picture(one.levels + draw.integers(0, 6, (20, 24, 3), np.uint8)) for one in before]
    images, changed = (torch.stack([torch.from_numpy(one.unit()) for one in some]) for some in (before, after))
    losses = Dissimilarity().losses(images, changed - images)
    assert losses.tolist() == pytest.approx([1 - value for value in reported_ssim(before, after)], abs=2e-6)


def test_penalties_add_up_with_their_weights() -> None:
    images, _ = make_batch(3)
    delta = perturbation(images)
    both = Penalties(((2.0, SquaredL2()), (0.5, TotalVariation())))
    for what in ("slope", "losses"):
        parts = [getattr(penalty, what)(images, delta) for penalty in (SquaredL2(), TotalVariation())]
        assert torch.allclose(getattr(both, what)(images, delta), 2 * parts[0] + parts[1] / 2)
    assert Penalties().losses(images, delta).tolist() == [0, 0, 0]
    assert not Penalties().slope(images, delta).any()


@pytest.mark.parametrize("name", ALL)
def test_padding_counts_for_nothing(name: str) -> None:
    """Each image of a padded batch is charged, and pulled, as if it were alone."""
    images, _ = make_batch(3)
    extents = ((5, 8), (8, 6), (5, 8))
    inside = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    for mask, (height, width) in zip(inside, extents, strict=True):
        mask[:, :height, :width] = True
    images, delta = images * inside, perturbation(images) * inside
    penalty = Unpadded(ALL[name], extents)
    losses, slope = penalty.losses(images, delta), penalty.slope(images, delta)
    assert not (slope * ~inside).any()
    for row, (height, width) in enumerate(extents):
        alone = images[row : row + 1, :, :height, :width], delta[row : row + 1, :, :height, :width]
        assert torch.allclose(losses[row : row + 1], ALL[name].losses(*alone))
        assert torch.allclose(slope[row : row + 1, :, :height, :width], ALL[name].slope(*alone) / 3)
    assert all(isinstance(one, Penalty) for one in (*ALL.values(), Penalties(), penalty))


def crafted(
    penalty: Penalty | None, start: Start = zero_start, augment: Augmentation | None = None, steps: int = 20
) -> Tensor:
    images, labels = make_batch(4)
    return craft(
        images,
        labels,
        ClassTargeted(make_network("smooth")),
        ball=Linf(0.1),
        step_sizes=linear_steps(0.02, steps),
        generator=torch.Generator().manual_seed(0),
        start=start,
        augment=augment,
        penalty=penalty,
    )


@pytest.mark.parametrize("start", [zero_start, uniform_start])
def test_a_huge_weight_leaves_the_images_as_they_are(start: Start) -> None:
    """Signed steps end within the last of them around 0; without the penalty, most values end at the bound."""
    assert crafted(None, start).abs().mean() > 0.05
    assert crafted(Penalties(((1e6, SquaredL2()),)), start).abs().max() <= 0.02 * 2 / 20 + 1e-9


@pytest.mark.parametrize("name", ALL)
def test_a_penalty_lowers_what_it_measures_and_its_flipped_sign_raises_it(name: str) -> None:
    images, _ = make_batch(4)
    measured = [
        ALL[name].losses(images, crafted(penalty)).mean().item()
        for penalty in (Penalties(((1e3, ALL[name]),)), None, Penalties(((-1e3, ALL[name]),)))
    ]
    assert measured[0] < 0.5 * measured[1]
    assert measured[0] < measured[2]


def test_no_weight_changes_nothing() -> None:
    assert torch.equal(crafted(None), crafted(Penalties(((0.0, SquaredL2()),))))


def test_one_step_with_a_penalty_by_hand() -> None:
    """The penalty pulls on the perturbation itself, with its own sign and scale."""
    network, (images, labels) = make_network("smooth"), make_batch(3)
    objective = ClassTargeted(network)
    generator = torch.Generator().manual_seed(3)
    start = uniform_start(Linf(0.05).bounds(images), torch.Generator().manual_seed(3))
    delta = start.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(images + delta), (labels + 1) % 4)
    loss = loss + 0.7 * delta.square().sum(dim=(1, 2, 3)).mean()
    (slope,) = torch.autograd.grad(loss, delta)
    moved = craft(
        images,
        labels,
        objective,
        ball=Linf(0.05),
        step_sizes=(0.01,),
        generator=generator,
        penalty=Penalties(((0.7, SquaredL2()),)),
    )
    assert torch.allclose(moved, Linf(0.05).bounds(images).project(start - 0.01 * slope.sign()))
    plain = start - 0.01 * objective.slope(images + start, labels).sign()
    assert not torch.allclose(moved, Linf(0.05).bounds(images).project(plain))
