import pytest
import torch

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.noise import Noise
from withhold.evaluation.countermeasures.table import COUNTERMEASURES

from .conftest import Seen


@pytest.mark.parametrize(("name", "deviation"), [("noise-8", 8 / 255), ("noise-13", 0.05)])
def test_noise_has_the_stated_deviation_and_mean_zero(name: str, deviation: float, generator: torch.Generator) -> None:
    countermeasure = COUNTERMEASURES[name]
    assert isinstance(countermeasure, Noise)
    images = torch.full((64, 3, 32, 32), 0.5)
    noise = countermeasure.change(images, torch.zeros(64), generator)[0] - images
    assert noise.std().item() == pytest.approx(deviation, rel=0.01)
    assert abs(noise.mean().item()) < deviation / 100
    assert abs((noise[:, 0] * noise[:, 1]).mean().item()) < deviation**2 / 50  # channels are independent


def test_noise_stays_in_the_valid_range_and_is_fresh_in_each_epoch(seen: Seen) -> None:
    data = seen(Noise(0.5))
    generator = torch.Generator().manual_seed(0)
    epochs = []
    for _ in range(2):
        batches = list(data.epoch(8, generator))
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert images.min() == 0
        assert images.max() == 1
        epochs.append(images[labels.argsort(stable=True)])
    assert not torch.equal(*epochs)


def test_no_noise_is_refused() -> None:
    with pytest.raises(InvalidInput, match="above 0"):
        Noise(0)
