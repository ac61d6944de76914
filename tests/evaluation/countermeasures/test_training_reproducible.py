"""What holds for all countermeasures that change the training."""

from fractions import Fraction

import pytest
import torch
from tests.evaluation.countermeasures.training_tasks import make_competitor, state, stripes, tiny_network

from withhold.evaluation.countermeasures.adversarial import AdversarialTraining
from withhold.evaluation.countermeasures.clean_alone import CleanAlone
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.dilution import Dilution
from withhold.evaluation.countermeasures.dp_sgd import DpSgd
from withhold.evaluation.countermeasures.early_stopping import EarlyStopping
from withhold.evaluation.countermeasures.gradient_noise import GradientNoise
from withhold.evaluation.countermeasures.orthogonal import OrthogonalProjection
from withhold.evaluation.countermeasures.simclr import SimCLR
from withhold.networks.recipe import Recipe

ALL = [
    AdversarialTraining(Fraction(8, 255)),
    GradientNoise(),
    DpSgd(),
    OrthogonalProjection(),
    EarlyStopping(20),
    Dilution(20),
    CleanAlone(20),
    SimCLR(),
]


@pytest.mark.parametrize("side", [16, 24], ids=["as large as the input", "larger"])
@pytest.mark.parametrize("countermeasure", ALL, ids=lambda value: type(value).__name__)
def test_equal_seeds_give_equal_networks_whatever_the_global_state(countermeasure: Countermeasure, side: int) -> None:
    for module in countermeasure.packages:
        pytest.importorskip(module)
    task, clean = stripes(40, side=side), stripes(20, side=side, seed=1)
    states = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(global_seed)
            before = torch.get_rng_state()
            competitor = make_competitor(tiny_network(), Recipe(epochs=1, batch_size=16), seed=seed, clean=clean)
            states.append(state(countermeasure(task.images, task.labels, competitor)))
            assert torch.equal(before, torch.get_rng_state())
    one, same, other = states
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["body.9.weight"], other["body.9.weight"])
