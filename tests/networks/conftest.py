import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from withhold.networks.tensor_data import TensorData


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shared_data() -> Path:
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("WITHHOLD_TEST_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data in {folder}; name its folder in WITHHOLD_TEST_DATA")
    return folder


def stripes(count: int, side: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two classes that only the direction of stripes tells apart, under noise: (n, 3, side, side) uint8 and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    wave = (torch.arange(side) % 4 < 2).float()
    phase = torch.randint(4, (count,), generator=generator)
    lines = torch.stack([wave.roll(int(offset)) for offset in phase])
    horizontal = lines[:, None, :, None].expand(-1, 3, -1, side)
    vertical = lines[:, None, None, :].expand(-1, 3, side, -1)
    images = torch.where(labels[:, None, None, None] == 0, horizontal, vertical) * 90 + 60
    noise = torch.randn(images.shape, generator=generator) * 25
    return (images + noise).clamp(0, 255).to(torch.uint8), labels


@pytest.fixture
def stripe_images() -> tuple[Tensor, Tensor]:
    return stripes(192)


@pytest.fixture
def unseen_stripes() -> tuple[Tensor, Tensor]:
    return stripes(200, seed=1)


@pytest.fixture
def stripe_data(stripe_images: tuple[Tensor, Tensor]) -> TensorData:
    return TensorData(*stripe_images, classes=2)
