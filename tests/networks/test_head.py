import pytest
import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.networks.classifier import Classifier, wrap
from withhold.networks.head import classification_layer, features, train_head_only
from withhold.networks.recipe import Recipe
from withhold.networks.table import ARCHITECTURES, build
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import train

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_layer_maps_the_features_to_the_logits(name: str) -> None:
    network = build(name, 5, input_size=32).eval()
    _, layer = classification_layer(network)
    read = features(network, IMAGES)
    assert read.shape == (4, layer.in_features)
    torch.testing.assert_close(layer(read), network(IMAGES))


def test_the_last_of_several_is_taken_with_its_name() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 7))
    network = wrap(body, 4, input_size=32)
    name, layer = classification_layer(network)
    assert (name, layer) == ("body.3", body[3])
    assert network.get_submodule(name) is layer


def test_reading_features_leaves_no_hook_behind() -> None:
    network = build("resnet9", 5).eval()
    features(network, IMAGES)
    assert not classification_layer(network)[1]._forward_pre_hooks


def test_features_carry_gradients_where_they_are_enabled() -> None:
    network = build("resnet9", 5).eval()
    assert features(network, IMAGES).requires_grad
    with torch.no_grad():
        assert not features(network, IMAGES).requires_grad


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 6)), "found body.1 with 6"),
        (nn.Sequential(nn.Conv2d(3, 5, 32), nn.Flatten()), "found no linear layer"),
    ],
)
def test_networks_without_such_a_layer_are_refused(body: nn.Module, found: str) -> None:
    network = wrap(body, 5, input_size=32)
    for use in (classification_layer, train_head_only, lambda n: features(n, IMAGES)):
        with pytest.raises(InvalidInput, match=rf"each of the 5 classes; {found}\. Use a network"):
            use(network)


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5]


def test_features_of_a_layer_that_is_not_used_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"Idle does not use its layer body\.unused"):
        features(wrap(Idle(), 5, input_size=32), IMAGES)


def with_dropout() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(6 * 14 * 14, 2)
        )
    return wrap(body, 2, input_size=16)


@pytest.mark.parametrize("kind", ["resnet9", "mobilenetv2", "with dropout"])
def test_training_the_head_changes_the_head_alone(kind: str, stripe_images: tuple[Tensor, Tensor]) -> None:
    network = with_dropout() if kind == "with dropout" else build(kind, 2, input_size=16)
    train_head_only(network)
    name, _ = classification_layer(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    data = TensorData(stripe_images[0][:32], stripe_images[1][:32], classes=2)
    result = train(network, data, Recipe(epochs=2, batch_size=16, lr=0.01), seed=0, device=torch.device("cpu"))
    after = network.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {f"{name}.weight", f"{name}.bias"}
    assert result.history[1].loss < result.history[0].loss


def test_the_frozen_part_stays_in_evaluation_mode() -> None:
    network = build("resnet9", 2).train()
    train_head_only(network)
    assert not any(layer.training for layer in network.modules())
    assert network.train() is network
    assert not any(layer.training for layer in network.modules())
    assert [name for name, parameter in network.named_parameters() if parameter.requires_grad] == [
        "body.linear.weight",
        "body.linear.bias",
    ]


def test_other_networks_train_as_ever() -> None:
    network = build("resnet9", 2)
    assert all(layer.training for layer in network.eval().train().modules())
