from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.online.protectors import SIDE, pixels, tiny

from withhold import craft
from withhold.data.pixels import Picture
from withhold.online.folder import read_folder
from withhold.online.lanes import LaneCrafter, OwnDraws, Task, seen_size
from withhold.online.loading import lane_crafter
from withhold.online.settings import Speed

INSTANT = Speed(start="generator", steps=0, step_size=1)
FULL = Speed(start="settings", steps=2, step_size=0.5)


def crafter(folder: Path, **chosen: object) -> LaneCrafter:
    return lane_crafter(read_folder(tiny(folder, **chosen)), torch.device("cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize("views", [craft.ShiftFlip(), craft.ShiftFlip(subpixel=True), craft.RandomResizedCrop(8)])
def test_each_image_of_a_batch_has_the_views_that_it_has_alone(views: craft.ShiftFlip) -> None:
    images = torch.rand(3, 3, 12, 12).contiguous(memory_format=torch.channels_last)
    seeds = (5, 6, 5)
    together = OwnDraws(views, [torch.Generator().manual_seed(seed) for seed in seeds])
    alone = [torch.Generator().manual_seed(seed) for seed in seeds]
    for _ in range(3):
        drawn = together(images, torch.Generator())
        for view, image, generator in zip(drawn, torch.split(images, 1), alone, strict=True):
            assert torch.equal(view[None], views(image, generator))


def test_results_come_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    made = crafter(tmp_path / "p", lanes=2)
    sizes = [(16, 16), (20, 9), (16, 16), (9, 20), (16, 16), (20, 9)]
    tasks = [Task(Picture(pixels(seed, *size)), seed % 3, seed) for seed, size in enumerate(sizes)]
    for speed in (INSTANT, FULL):
        deltas = made.perturbations(tasks, speed)
        assert [delta.shape[1:] for delta in deltas] == sizes
        for task, delta in zip(tasks, deltas, strict=True):
            assert np.array_equal(made.perturbations([task], speed)[0], delta)


@pytest.mark.parametrize("size", [(16, 16), (15, 16), (64, 40), (5, 5), (3, 200)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_saturated_generator_stays_within_the_ball_at_every_size(
    tmp_path: Path, size: tuple[int, int], channels: int
) -> None:
    """Interpolation is a mean, so what is resized up or down stays within the radius, and in the valid range."""
    made = crafter(tmp_path / "p", generator_weights=1e6)
    picture = Picture(pixels(0, *size, channels))
    (delta,) = made.perturbations([Task(picture)], INSTANT)
    assert np.abs(delta).max() <= np.float32(8 / 255)
    assert ((picture.unit() + delta) >= 0).all()
    assert ((picture.unit() + delta) <= 1).all()
    assert np.abs(delta).max() > 0.25 * 8 / 255


def test_a_picture_of_the_inputs_size_is_seen_whole_unless_the_surrogate_sees_crops(tmp_path: Path) -> None:
    """A crop would be resized; a surrogate that was trained on whole pictures sees exactly these."""
    whole = crafter(tmp_path / "p")
    image = Picture(pixels(0))
    cropping = replace(whole, crafter=replace(whole.crafter, crop_size=SIDE))
    network = whole.crafter.surrogates[0].network
    exact = craft.ClassTargeted(network).losses(torch.from_numpy(image.unit())[None], torch.tensor([1]))
    assert whole.losses([Task(image, 1)]) == pytest.approx(exact.tolist(), rel=1e-6)
    assert cropping.losses([Task(image, 1)]) != pytest.approx(exact.tolist(), rel=1e-6)


def test_the_generator_sees_a_pixel_where_the_surrogate_sees_one() -> None:
    assert seen_size(256, 256, 224) == (256, 256)
    assert seen_size(512, 768, 224) == (256, 384)
    assert seen_size(28, 56, 112) == (128, 256)
    for height, width in ((1, 1_000_000), (1_000_000, 1), (2, 100_000)):
        seen = seen_size(height, width, 112)
        assert seen[0] * seen[1] <= 1.01 * 16 * 112**2
        assert min(seen) >= 1
