from pathlib import Path

import pytest
import torch
from torch import fx, nn

from withhold.errors import InvalidInput
from withhold.networks.classifier import wrap
from withhold.networks.table import ARCHITECTURES, build


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_maps_colour_and_grey_pixels_to_logits(name: str) -> None:
    network = build(name, 3, input_size=32).eval()
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    assert (network.architecture, network.classes, network.input_size) == (name, 3, 32)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "vit"])
def test_convolutional_networks_can_be_traced(name: str) -> None:
    network = build(name, 3, input_size=32).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(fx.symbolic_trace(network)(images), network(images))


def test_stem_follows_the_input_size() -> None:
    assert build("resnet10-narrow", 2, input_size=96).body.conv1.kernel_size == (3, 3)  # type: ignore[union-attr]
    assert build("resnet10-narrow", 2, input_size=112).body.conv1.kernel_size == (7, 7)  # type: ignore[union-attr]


def test_initial_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one = build("resnet9", 2, seed=1).body.state_dict()["linear.weight"]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(5)
    assert torch.equal(one, build("resnet9", 2, seed=1).body.state_dict()["linear.weight"])
    assert not torch.equal(one, build("resnet9", 2, seed=2).body.state_dict()["linear.weight"])


def test_mean_and_std_reach_the_first_layer() -> None:
    network = build("resnet9", 2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert network.mean == (0.1, 0.2, 0.3)
    assert network.normalise.std.flatten().tolist() == pytest.approx([0.5, 0.6, 0.7])


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(InvalidInput, match=r"unknown architecture 'resnet50'. Built in are resnet9, .*resnet18.*vit"):
        build("resnet50", 10)


def test_one_class_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least two classes; got 1"):
        build("resnet9", 1)


def test_wrapped_network_takes_pixels_as_they_are() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = torch.rand(4, 3, 2, 2)
    wrapped = wrap(network, 2, input_size=2)
    assert torch.equal(wrapped(images), network(images))
    assert wrapped.ready
    assert wrapped.architecture == "Sequential"


OWN = """
from torch import fx, nn

def linear(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))

def no_network(classes):
    return classes

def no_arguments():
    return nn.Identity()
"""


@pytest.fixture
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_networks_of_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own_networks")
def test_own_function_in_the_current_folder() -> None:
    network = build("own_networks_of_test:linear", 5, input_size=4)
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(network(images), network.body(images))
    assert network(images).shape == (2, 5)


@pytest.mark.usefixtures("own_networks")
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("own_networks_of_test:absent", "cannot import 'own_networks_of_test:absent'"),
        ("no_such_module_at_all:linear", "cannot import"),
        (":linear", "cannot import"),
        ("own_networks_of_test:no_network", "must return a torch.nn.Module; it returned int"),
        ("own_networks_of_test:no_arguments", r"must be callable as function\(classes\)"),
    ],
)
def test_own_function_that_cannot_be_used(name: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        build(name, 5)
