"""RandAugment and TrivialAugment with Kornia's operations."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from kornia.augmentation.auto import TrivialAugment as Policy
from PIL import Image, ImageEnhance
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.randaugment import RandAugment
from withhold.evaluation.countermeasures.trivialaugment import (
    COLOURS,
    OPERATIONS,
    SHEAR,
    TrivialAugment,
    changed_one_by_one,
    colour,
    trivial_policies,
)

from .conftest import Seen


class Times(nn.Module):
    """A policy that tells how often and on how many images it was used."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return images * self.factor


def test_each_image_goes_through_policies_of_its_own(generator: torch.Generator) -> None:
    images = torch.ones(600, 3, 2, 2)
    result = changed_one_by_one(images, [Times(1 / 2), Times(1 / 3), Times(1 / 5)], generator)[:, 0, 0, 0]
    values, counts = torch.unique(result, return_counts=True)
    torch.testing.assert_close(values, torch.tensor([1 / 5, 1 / 3, 1 / 2]))
    assert (counts - 200).abs().max() < 50
    assert torch.equal(images, torch.ones(600, 3, 2, 2))


def test_an_image_goes_through_different_policies(generator: torch.Generator) -> None:
    policies = [Times(1 / 2), Times(1 / 3), Times(1 / 5)]
    result = changed_one_by_one(torch.ones(300, 3, 1, 1), policies, generator, count=2)[:, 0, 0, 0]
    torch.testing.assert_close(torch.unique(result), torch.tensor([1 / 15, 1 / 10, 1 / 6]))


def test_operations_draw_from_the_generator_alone(batch: Tensor) -> None:
    def views(seed: int) -> Tensor:
        return changed_one_by_one(batch, trivial_policies(), torch.Generator().manual_seed(seed))

    torch.manual_seed(0)
    first = views(7)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    assert torch.equal(first, views(7))
    assert not torch.equal(first, views(8))
    assert torch.equal(torch.random.get_rng_state(), before)


POLICIES = {**{name: colour(name, 0.9) for name in COLOURS}, **{op[0]: Policy(policy=[[op]]) for op in OPERATIONS}}


@pytest.mark.parametrize("name", POLICIES)
def test_every_operation_changes_images_and_keeps_them_valid(
    name: str, batch: Tensor, generator: torch.Generator
) -> None:
    dim = batch * 0.6  # so that there is contrast to gain
    views = changed_one_by_one(dim, [POLICIES[name]], generator)
    assert views.dtype == torch.float32
    assert not torch.equal(views, dim)
    assert views.min() >= 0
    assert views.max() <= 1
    # Kornia's own ranges make some images all black or all white.
    assert (views.flatten(1).amax(1) > 0.04).all()
    assert (views.flatten(1).amin(1) < 0.96).all()


@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_colours_are_changed_as_pillow_does(
    name: str, enhance: Callable[[Image.Image], ImageEnhance.Brightness], batch: Tensor
) -> None:
    pale = batch[:1] * 0.5 + 0.1
    image = Image.fromarray((pale[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    policy = colour(name, 0.9)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        changed = policy(pale)
    factor = float(policy._params[f"{name}_factor"])  # type: ignore[index]
    assert abs(factor - 1) > 0.2
    expected = torch.from_numpy(np.array(enhance(image).enhance(factor))).permute(2, 0, 1) / 255
    assert (changed[0] - expected).abs().max() < 4 / 255


def test_randaugment_changes_colours_by_a_share_of_the_whole_range(batch: Tensor, generator: torch.Generator) -> None:
    brightness = RandAugment(strength=10).policies()[0]
    factors = (changed_one_by_one(batch * 0.5, [brightness], generator) / (batch * 0.5)).nanmean((1, 2, 3))
    assert factors.min() >= 0.7 - 1e-4
    assert factors.max() <= 1.3 + 1e-4
    assert factors.std().item() == pytest.approx(0.6 / 12**0.5, rel=0.3)


def sheared(limit: float) -> float:
    """How far a vertical line's ends lie apart, per row, at most over many draws."""
    images = torch.zeros(200, 3, 33, 65)
    images[..., 32] = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        views = Policy(policy=[[("shear_x", -limit, limit)]])(images)
    rows = views[:, 0, 12:21]
    place = (rows * torch.arange(65.0)).sum(2) / rows.sum(2)
    return float((place[:, -1] - place[:, 0]).abs().max() / 8)


def test_shear_is_the_papers_and_not_kornias() -> None:
    assert sheared(SHEAR) == pytest.approx(0.3, abs=0.02)
    assert sheared(0.3) > 1


@pytest.mark.parametrize("make", [TrivialAugment, RandAugment])
def test_training_gets_changed_views_with_the_labels_they_had(
    seen: Seen, make: Callable[[], TrivialAugment | RandAugment], batch: Tensor
) -> None:
    ((images, labels),) = seen(make()).epoch(32, torch.Generator().manual_seed(0))
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(labels, order % 4)
    changed = (images != batch[order]).flatten(1).any(1)
    assert changed.float().mean() > 0.6


def test_impossible_settings_of_randaugment_are_refused() -> None:
    for settings in ((0, 10), (16, 10), (2, 0), (2, 30)):
        with pytest.raises(InvalidInput, match="RandAugment needs"):
            RandAugment(*settings)
