import pytest
import torch
from torch import Tensor, nn

from withhold.networks.head import classification_layer, features
from withhold.networks.iresnet import ImprovedBlock, IResNet, recogniser
from withhold.networks.table import RECOGNISERS, build


def images(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("blocks", "count"),
    # InsightFace's iresnet18 and iresnet50 for 112 px, with the weight of the last norm, which is frozen there.
    [((2, 2, 2, 2), 24_025_600), ((3, 4, 14, 3), 43_590_848)],
)
def test_extractors_have_the_known_sizes(blocks: tuple[int, ...], count: int) -> None:
    with torch.device("meta"):
        assert parameters(IResNet(112, blocks)) == count


def test_parameter_names_are_those_of_insightface() -> None:
    names = set(IResNet(32, (1, 1, 1, 1), width=2, embedding=4).state_dict())
    assert {"conv1.weight", "prelu.weight", "layer1.0.bn1.weight", "layer4.0.downsample.1.running_mean"} <= names
    assert {name for name in names if not name.startswith("layer")} >= {"bn2.bias", "fc.weight", "features.bias"}


@pytest.mark.parametrize("stride", [1, 2])
def test_block_is_what_its_name_says(stride: int) -> None:
    """Spelled out: shortcut + norm(conv(prelu(norm(conv(norm(x)))))), and no activation after the sum."""
    block = ImprovedBlock(4, 6, stride).eval()
    with torch.no_grad():
        block.prelu.weight.copy_(torch.linspace(-0.2, 0.4, 6))
        block.bn2.running_mean.copy_(torch.linspace(-0.3, 0.3, 6))  # type: ignore[union-attr]
    x = torch.randn(2, 4, 8, 8)
    inner = nn.functional.conv2d(x / (1 + 1e-5) ** 0.5, block.conv1.weight, padding=1)
    shift = torch.linspace(-0.3, 0.3, 6)[:, None, None]
    normed = (inner - shift) / (1 + 1e-5) ** 0.5
    slopes = torch.linspace(-0.2, 0.4, 6)[:, None, None]
    bent = torch.where(normed > 0, normed, slopes * normed)
    residual = nn.functional.conv2d(bent, block.conv2.weight, stride=stride, padding=1)
    shortcut = nn.functional.conv2d(x, block.downsample[0].weight, stride=stride)  # type: ignore[index]
    expected = (residual + shortcut) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), expected)
    assert expected.min() < 0
    assert isinstance(ImprovedBlock(4, 4, 1).downsample, nn.Identity)


@pytest.mark.parametrize(("side", "stride", "last"), [(112, 1, 7), (112, 2, 4), (48, 1, 3), (40, 2, 2), (16, 1, 1)])
def test_any_side_will_do(side: int, stride: int, last: int) -> None:
    network = IResNet(side, (1, 1, 1, 1), width=2, embedding=5, stem_stride=stride).eval()
    assert network.fc.in_features == 16 * last**2
    assert network(images(2, side)).shape == (2, 5)


def test_dropout_acts_in_training_alone() -> None:
    network = IResNet(16, (1, 1, 1, 1), width=2, embedding=3, dropout=0.5)
    network(images(4, 16))
    network.eval()
    assert torch.equal(network(images(2, 16)), network(images(2, 16)))
    network.dropout.train()
    assert not torch.equal(network(images(2, 16)), network(images(2, 16)))


def test_features_are_the_embedding_even_where_there_are_as_many_classes_as_numbers_in_it() -> None:
    body = recogniser(IResNet(16, (1, 1, 1, 1), width=2, embedding=6), 6)
    network = build("iresnet10-narrow", 128, input_size=32).eval()
    name, layer = classification_layer(network)
    assert (name, layer.in_features) == ("body.classifier", 128)
    network.body, network.classes = body.eval(), 6
    x = images(2, 16)
    torch.testing.assert_close(features(network, x), body.extractor(network.normalise(x)))


@pytest.mark.parametrize("name", RECOGNISERS)
def test_recognisers_see_pixels_from_minus_one_to_one(name: str) -> None:
    network = build(name, 2, input_size=16)
    extremes = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    assert network.normalise(extremes).unique().tolist() == [-1, 1]
