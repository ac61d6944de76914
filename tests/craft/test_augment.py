import pytest
import torch
from torch.nn import functional as F

from withhold.craft.augment import Augmentation, Fixed, InColour, RandomResizedCrop, ShiftFlip, Unchanged


def ramp(height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)


def test_without_reach_a_view_is_the_image_or_its_mirror(generator: torch.Generator) -> None:
    images = ramp().expand(40, 3, -1, -1)
    views = ShiftFlip(reach=0.0)(images, generator)
    mirrored = [torch.allclose(view, image.flip(2)) for view, image in zip(views, images, strict=True)]
    same = [torch.allclose(view, image) for view, image in zip(views, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 32


def test_whole_pixel_shifts_are_padded_crops_and_reach_as_far_as_said() -> None:
    """Every view is one of the crops that a trainer cuts from an image with a mirrored border."""
    image = ramp(16, 16)
    padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
    padded[..., 0, :], padded[..., -1, :] = padded[..., 3, :].clone(), padded[..., -4, :].clone()
    padded[..., :, 0], padded[..., :, -1] = padded[..., :, 3].clone(), padded[..., :, -4].clone()
    crops = {(top, left): padded[0, 0, top : top + 16, left : left + 16] for top in range(5) for left in range(5)}
    views = ShiftFlip(reach=1 / 8)(image.expand(400, 1, -1, -1), torch.Generator().manual_seed(0))
    found = set()
    for view in views[:, 0]:
        matches = {
            place
            for place, crop in crops.items()
            if torch.allclose(view, crop, atol=1e-6) or torch.allclose(view, crop.flip(1), atol=1e-6)
        }
        assert len(matches) >= 1
        found |= matches
    assert found == set(crops)


def test_subpixel_shifts_lie_between_whole_ones() -> None:
    columns = torch.arange(32.0).expand(300, 1, 32, 32)
    views = ShiftFlip(reach=1 / 8, subpixel=True)(columns, torch.Generator().manual_seed(0))
    middle = views[:, 0, 16, 16]
    shift = torch.minimum((middle - 16).abs(), (31 - middle - 16).abs())  # mirrored or not
    assert shift.max() <= 4.0001
    assert shift.max() > 3.8
    assert ((shift - shift.round()).abs() > 0.05).float().mean() > 0.8


def test_a_full_crop_is_an_antialiased_resize(generator: torch.Generator) -> None:
    images = torch.rand(5, 3, 40, 60, generator=generator).double()
    crop = RandomResizedCrop(16, scale=(1.0, 1.0), ratio=(1.5, 1.5))
    views = crop(images, generator)
    expected = F.interpolate(images, size=(16, 16), mode="bilinear", antialias=True, align_corners=False)
    for view, resized in zip(views, expected, strict=True):
        assert torch.allclose(view, resized) or torch.allclose(view, resized.flip(2))


def test_crops_never_see_the_padding_of_their_batch(generator: torch.Generator) -> None:
    images = torch.full((20, 3, 30, 50), torch.nan)
    extents = tuple((10 + j, 50 - 2 * j) for j in range(20))
    for image, (height, width) in zip(images, extents, strict=True):
        image[:, :height, :width] = 0.25
    crop = RandomResizedCrop(8, extents)
    for views in (crop(images, generator), crop.plain(images)):
        assert torch.allclose(views, torch.full_like(views, 0.25))


def test_crops_cover_the_share_of_the_area_asked_for() -> None:
    images = ramp(100, 100).expand(200, 1, -1, -1)
    crop = RandomResizedCrop(2, scale=(0.25, 0.25), ratio=(1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    tops_and_lefts = {crop._box((100, 100), torch.rand(4, generator=generator).tolist()) for _ in range(200)}
    assert all(box[2:] == (50, 50) for box in tops_and_lefts)
    assert {0, 50} <= {box[0] for box in tops_and_lefts} | {box[1] for box in tops_and_lefts}
    assert crop(images, generator).shape == (200, 1, 2, 2)


@pytest.mark.parametrize("augment", [Unchanged(), ShiftFlip(), RandomResizedCrop(5), Fixed(RandomResizedCrop(5))])
def test_views_are_repeatable_and_differentiable(augment: Augmentation) -> None:
    images = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    views = augment(images, torch.Generator().manual_seed(2))
    assert torch.equal(views, augment(images, torch.Generator().manual_seed(2)))
    (slope,) = torch.autograd.grad(views.sum(), images)
    assert slope.isfinite().all()
    assert (slope.flatten(1).abs().sum(1) > 0).all()


def test_fixed_views_do_not_draw(generator: torch.Generator) -> None:
    images = torch.rand(2, 3, 9, 12).double()
    before = generator.get_state()
    assert torch.equal(Fixed(RandomResizedCrop(4))(images, generator), RandomResizedCrop(4).plain(images))
    assert torch.equal(generator.get_state(), before)


def test_grey_images_are_shown_in_three_equal_channels(generator: torch.Generator) -> None:
    views = InColour(Unchanged())(ramp(), generator)
    assert views.shape == (1, 3, 6, 8)
    assert torch.equal(views[:, 0], views[:, 2])
