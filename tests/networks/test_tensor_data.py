import pytest
import torch

from withhold.errors import InvalidInput
from withhold.networks.tensor_data import TensorData


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_image_comes_once_in_batches_of_nearly_equal_size() -> None:
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 8, 8)
    data = TensorData(images, torch.arange(10), classes=10)
    batches = list(data.epoch(4, generator()))
    assert sorted(len(labels) for _, labels in batches) == [3, 3, 4]
    for pixels, labels in batches:
        # Images of one colour look the same under every crop and flip, so they still tell which label is theirs.
        assert torch.equal(pixels[:, 1, 5, 5], labels.float() / 255)
    assert torch.cat([labels for _, labels in batches]).sort().values.tolist() == list(range(10))


def test_without_augmentation_images_pass_as_they_are() -> None:
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=generator())
    data = TensorData(images, torch.arange(6), classes=6, augment=False)
    ((pixels, labels),) = data.epoch(6, generator())
    assert torch.equal(pixels, images[labels].float() / 255)


def test_views_are_the_shifts_and_flips_of_the_reflected_image_and_all_of_them_occur() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    reflected = torch.nn.functional.pad(image.float(), (1, 1, 1, 1), mode="reflect")[0, 0]
    views = [reflected[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    possible = {tuple(view.flatten().tolist()) for shown in views for view in (shown, shown.flip(1))}
    data = TensorData(image.expand(400, -1, -1, -1), torch.zeros(400), classes=1)
    ((pixels, _),) = data.epoch(400, generator())
    assert {tuple(view.flatten().tolist()) for view in (pixels * 255).round()} == possible
    assert len(possible) == 18


def test_batches_are_channels_last() -> None:
    data = TensorData(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4), classes=1)
    pixels, _ = next(data.epoch(4, generator()))
    assert pixels.is_contiguous(memory_format=torch.channels_last)


def test_equal_generators_give_equal_epochs_and_the_next_epoch_differs() -> None:
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=generator())
    data = TensorData(images, torch.arange(16), classes=16)
    one, other = generator(3), generator(3)
    first, same, second = (next(data.epoch(16, g))[0] for g in (one, other, one))
    assert torch.equal(first, same)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 2, 8, 8, dtype=torch.uint8)])
def test_refuses_images_that_are_not_uint8_with_one_or_three_channels(images: torch.Tensor) -> None:
    with pytest.raises(InvalidInput, match="uint8 of shape"):
        TensorData(images, torch.zeros(2), classes=2)


@pytest.mark.parametrize("labels", [torch.tensor([0]), torch.tensor([0, 2]), torch.tensor([-1, 0])])
def test_refuses_labels_that_do_not_fit(labels: torch.Tensor) -> None:
    with pytest.raises(InvalidInput, match=r"integers in \[0, 2\)"):
        TensorData(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), labels, classes=2)
