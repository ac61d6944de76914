import numpy as np
import pytest
import torch
from tests.release.memory import MemoryDataset

from withhold.data.arrays import as_it_is, stack_arrays
from withhold.errors import RunStopped
from withhold.networks.choose import Views
from withhold.networks.tensor_data import TensorData
from withhold.release import training_images
from withhold.release.training_images import StreamedData, sample, training_data


def flat(count: int, *, random_access: bool = True, channels: int = 3) -> MemoryDataset:
    """Pictures of different sizes, each of one colour that is its position, so that every crop tells its source."""
    pictures = [np.full((20 + index % 7, 30 + index % 5, channels), index, np.uint8) for index in range(count)]
    return MemoryDataset(pictures, [index % 3 for index in range(count)], 3, random_access=random_access)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def positions(images: torch.Tensor) -> list[int]:
    assert torch.equal(images, images[:, :1, :1, :1].expand_as(images))
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize("random_access", [True, False])
def test_every_image_comes_once_with_its_label(random_access: bool) -> None:
    dataset = flat(200, random_access=random_access)
    data = StreamedData(dataset, dataset.listing(), 8, "crop")
    batches = list(data.epoch(32, generator()))
    assert [len(labels) for _, labels in batches] == [29, 29, 29, 29, 28, 28, 28]
    seen = [
        (position, label)
        for images, labels in batches
        for position, label in zip(positions(images), labels.tolist(), strict=True)
    ]
    assert sorted(seen) == [(position, position % 3) for position in range(200)]
    assert seen != sorted(seen)


def test_where_only_neighbours_are_cheap_they_are_read_in_a_row_and_shuffled_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_images, "NEIGHBOURS", 16)
    monkeypatch.setattr(training_images, "POOL_BYTES", 3 * 8 * 8 * 64)
    dataset = flat(128, random_access=False)
    batches = list(StreamedData(dataset, dataset.listing(), 8, "crop").epoch(16, generator()))
    windows = np.array(dataset.reads).reshape(-1, 16)
    assert (np.diff(windows, axis=1) == 1).all()
    assert windows[:, 0].tolist() != sorted(windows[:, 0])
    pools = [
        {position // 16 for images, _ in batches[start : start + 4] for position in positions(images)}
        for start in (0, 4)
    ]
    assert [len(pool) for pool in pools] == [4, 4]
    assert len({position // 16 for position in positions(batches[0][0])}) > 1


def test_crops_show_a_quarter_to_all_of_the_area_at_modest_aspects_and_both_sides() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 64)[None, :, None], (64, 64, 3)).astype(np.uint8)
    dataset = MemoryDataset([ramp] * 400, [0] * 400, 2)
    ((images, _),) = StreamedData(dataset, dataset.listing(), 16, "crop").epoch(400, generator())
    span = (images[:, 0, 0, -1] - images[:, 0, 0, 0]) * 16 / 15  # outermost pixel centres lie half a pixel inside
    widths = span.abs()
    # At a quarter of the area and an aspect of 3:4 a crop is sqrt(1/4 * 3/4) wide.
    assert 0.43 - 0.03 < widths.min() < 0.5
    assert 0.97 < widths.max() < 1.03
    assert 0.4 < (span < 0).float().mean() < 0.6


def test_native_views_are_whole_images_shifted_and_mirrored() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    dataset = MemoryDataset([picture] * 200, [0] * 200, 2)
    whole = TensorData(torch.from_numpy(np.stack([picture] * 400)).permute(0, 3, 1, 2), torch.zeros(400), 2)
    ((held, _),) = whole.epoch(400, generator(1))
    ((streamed, _),) = StreamedData(dataset, dataset.listing(), 8, "native").epoch(200, generator())
    assert {tuple(image.flatten().tolist()) for image in streamed} <= {
        tuple(image.flatten().tolist()) for image in held
    }


def test_equal_generators_give_equal_epochs() -> None:
    dataset = flat(40)
    data = StreamedData(dataset, dataset.listing(), 8, "crop")
    one, other = generator(5), generator(5)
    first, same, second = ([labels for _, labels in data.epoch(8, g)] for g in (one, other, one))
    assert torch.equal(torch.cat(first), torch.cat(same))
    assert not torch.equal(torch.cat(first), torch.cat(second))


@pytest.mark.parametrize(
    ("views", "limit", "kind"),
    [("native", 1 << 30, TensorData), ("native", 100, StreamedData), ("crop", 1 << 30, StreamedData)],
)
def test_small_sets_of_the_input_size_are_held(
    views: Views, limit: int, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_images, "HELD_BYTES", limit)
    dataset = MemoryDataset([np.zeros((8, 8, 3), np.uint8)] * 4, [0, 1, 0, 1], 2)
    data = training_data(dataset, dataset.listing(), 8, views)
    assert isinstance(data, kind)
    assert (len(data), data.classes) == (4, 2)


def test_grey_and_deep_pictures_become_8_bit_colour() -> None:
    grey = np.full((8, 8, 1), 7, np.uint8)
    deep = np.full((8, 8, 1), 257 * 9, np.uint16)
    dataset = MemoryDataset([grey, deep, np.full((8, 8, 3), 5, np.uint8)], [0, 1, 0], 2)
    images, labels = stack_arrays(dataset, dataset.listing(), 8, as_it_is)
    assert images.shape == (3, 8, 8, 3)
    assert images[:, 4, 4].tolist() == [[7, 7, 7], [9, 9, 9], [5, 5, 5]]
    assert labels.tolist() == [0, 1, 0]


def test_sample_is_spread_over_the_set() -> None:
    dataset = flat(200)
    images, labels = sample(dataset, dataset.listing(), 8, "crop", most=5)
    assert images[:, 0, 0, 0].tolist() == [0, 49, 99, 149, 199]
    assert labels.tolist() == [0, 1, 0, 2, 1]


def test_sample_takes_neighbours_where_only_they_are_cheap() -> None:
    dataset = flat(256, random_access=False)
    images, _ = sample(dataset, dataset.listing(), 8, "crop", most=128)
    assert images[:, 0, 0, 0].tolist() == [*range(64), *range(192, 256)]


def test_sample_of_a_small_set_is_the_set() -> None:
    dataset = flat(4, random_access=False)
    assert len(sample(dataset, dataset.listing(), 8, "crop", most=5)[0]) == 4


def test_centre_crop_is_the_middle_of_the_longer_side() -> None:
    picture = np.zeros((16, 64, 3), np.uint8)
    picture[:, 25:39] = 200  # seven eighths of 16 are 14 columns around the middle
    dataset = MemoryDataset([picture], [0], 2)
    images, _ = sample(dataset, dataset.listing(), 14, "crop", most=1)
    assert torch.equal(images, torch.full((1, 3, 14, 14), 200, dtype=torch.uint8))


def test_an_image_that_changed_since_the_scan_stops_the_run() -> None:
    dataset = flat(8)
    dataset.broken = {5}
    with pytest.raises(RunStopped, match=r"shard#5 cannot be read \(the bytes changed\)"):
        list(StreamedData(dataset, dataset.listing(), 8, "crop").epoch(4, generator()))
