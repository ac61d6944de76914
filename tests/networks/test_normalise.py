import pytest
import torch

from withhold.errors import InvalidInput
from withhold.networks.normalise import Normalise


def test_subtracts_the_mean_and_divides_by_the_deviation_per_channel() -> None:
    images = torch.full((1, 3, 1, 1), 0.5)
    out = Normalise((0.5, 0.25, 0.0), (1.0, 0.5, 0.25))(images)
    assert out.flatten().tolist() == [0.0, 0.5, 2.0]


def test_expands_one_channel_to_three() -> None:
    out = Normalise((0.0, 0.0, 0.5), (1.0, 0.5, 1.0))(torch.full((2, 1, 4, 4), 0.25))
    assert out.shape == (2, 3, 4, 4)
    assert out[1, :, 3, 3].tolist() == [0.25, 0.5, -0.25]


def test_is_no_part_of_the_state_dict() -> None:
    assert Normalise((0.0,) * 3, (1.0,) * 3).state_dict() == {}


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,)), ((0.0,) * 3, (1.0, 0.0, 1.0)), ((0.0,) * 3, (1.0,) * 2)])
def test_refuses_statistics_that_are_not_three_usable_numbers(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput, match="three numbers"):
        Normalise(mean, std)
