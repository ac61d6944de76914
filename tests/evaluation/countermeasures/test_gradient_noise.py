import math

import pytest
import torch
from tests.evaluation.countermeasures.training_tasks import make_competitor, state, stripes, tiny_network
from torch import nn

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.gradient_noise import GradientNoise
from withhold.evaluation.countermeasures.plain import Plain
from withhold.networks.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=32)


def parameters_with_gradients(scale: float, count: int = 3) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    found = [nn.Parameter(torch.zeros(40, 50)) for _ in range(count)]
    for parameter in found:
        parameter.grad = torch.randn(40, 50, generator=generator) * scale
    return found


def gradients(parameters: list[nn.Parameter]) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])


def test_a_large_gradient_is_shortened_to_the_clip_and_keeps_its_direction() -> None:
    parameters = parameters_with_gradients(5.0)
    before = gradients(parameters)
    GradientNoise(clip=2.0, noise=0.0).disturb(parameters, torch.Generator())
    after = gradients(parameters)
    assert float(after.norm()) == pytest.approx(2.0, rel=1e-4)
    assert float(after.double().norm()) <= 2.0 + 1e-6
    torch.testing.assert_close(after / after.norm(), before / before.norm())


def test_a_small_gradient_stays() -> None:
    parameters = parameters_with_gradients(1e-4)
    before = gradients(parameters)
    GradientNoise(clip=2.0, noise=0.0).disturb(parameters, torch.Generator())
    assert torch.equal(gradients(parameters), before)


def test_the_noise_has_the_stated_share_of_the_clip_as_its_deviation() -> None:
    parameters = parameters_with_gradients(0.0, count=50)
    GradientNoise(clip=2.0, noise=0.05).disturb(parameters, torch.Generator().manual_seed(1))
    noise = gradients(parameters)
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert abs(float(noise.mean())) < 4 * 0.1 / math.sqrt(len(noise))
    fourth = float(((noise / noise.std()) ** 4).mean())
    assert fourth == pytest.approx(3.0, abs=0.15)  # Gaussian, not uniform (1.8) or Laplacian (6)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    (parameter,) = parameters_with_gradients(0.0, count=1)
    unused = nn.Parameter(torch.zeros(3))
    GradientNoise().disturb([parameter, unused], torch.Generator())
    assert unused.grad is None


def test_training_without_noise_and_with_a_wide_clip_is_plain_training() -> None:
    task = stripes(64)
    plain, same, clipped, noisy = (
        state(method(task.images, task.labels, make_competitor(tiny_network(), RECIPE)))
        for method in (Plain(), GradientNoise(1e6, 0.0), GradientNoise(1e-3, 0.0), GradientNoise(1e6, 1e-6))
    )
    name = "body.0.weight"
    assert torch.equal(plain[name], same[name])
    assert not torch.equal(plain[name], clipped[name])
    assert not torch.equal(plain[name], noisy[name])


@pytest.mark.parametrize(("clip", "noise"), [(0.0, 0.1), (math.inf, 0.1), (1.0, -0.1), (1.0, math.nan)])
def test_meaningless_settings_are_refused(clip: float, noise: float) -> None:
    with pytest.raises(InvalidInput, match="clip must be finite"):
        GradientNoise(clip, noise)
