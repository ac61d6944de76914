"""VGG, GoogLeNet, DenseNet and MobileNetV2: sizes against published ones, shapes, gradients, one step of training."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from withhold.networks.convolution import ConvNormReLU
from withhold.networks.densenet import DenseLayer, DenseNet
from withhold.networks.googlenet import STAGES, GoogLeNet, Inception, Widths
from withhold.networks.mobilenet import InvertedResidual, MobileNetV2
from withhold.networks.resnet import Stem
from withhold.networks.table import build
from withhold.networks.vgg import VGG

NARROW: dict[str, Callable[[Stem], nn.Module]] = {
    "vgg": lambda _: VGG(3, width=4),
    "googlenet": lambda stem: GoogLeNet(3, stem=stem, narrowing=8),
    "densenet": lambda stem: DenseNet(3, (2, 2, 2, 2), growth=4, stem=stem),
    "mobilenet": lambda stem: MobileNetV2(3, stem=stem, narrowing=8),
}


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def images(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def biases(network: nn.Module) -> int:
    """Count the biases that versions with a bias in every convolution would have more."""
    return sum(layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d))


def test_vgg19_has_the_known_size() -> None:
    # torchvision's vgg19_bn has 143,678,248 parameters with 1000 classes, a bias in every convolution and three linear
    # layers, the first of which sees 7 x 7 pixels.
    linear = (512 * 49 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    network = VGG(10)
    assert parameters(network) == 143_678_248 - linear - biases(network) + 513 * 10
    assert parameters(network) == 20_040_522 - biases(network)  # the common CIFAR version


def test_googlenet_has_the_known_sizes() -> None:
    network = GoogLeNet(10, stem="cifar")
    assert parameters(network) == 6_166_250 - biases(network)  # the common CIFAR version
    # torchvision's has 6,624,904 without auxiliary classifiers, and one 3 x 3 convolution for the 5 x 5 one.
    second = sum(9 * row.conv5**2 + 2 * row.conv5 for stage in STAGES for row in stage)
    assert parameters(GoogLeNet(1000, stem="imagenet")) == 6_624_904 + second


def test_googlenet_widths_follow_from_each_other() -> None:
    # Output widths of table 1 of the paper, which the rows must add up to.
    assert [row.outputs for stage in STAGES for row in stage] == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


def test_densenet121_has_the_published_sizes() -> None:
    assert parameters(DenseNet(1000, stem="imagenet")) == 7_978_856  # torchvision
    assert parameters(DenseNet(10, stem="cifar")) == 6_956_298  # the common CIFAR version


def test_mobilenet_has_the_known_sizes() -> None:
    assert parameters(MobileNetV2(10, stem="cifar")) == 2_296_922  # the common CIFAR version
    # torchvision's has 3,504,872, no expansion by one, and no shortcut where the number of channels changes; between
    # the second and third width such a shortcut needs stride 1, which only the CIFAR stem has.
    expansion = 32 * 32 + 2 * 32
    shortcuts = sum(inputs * outputs + 2 * outputs for inputs, outputs in ((32, 16), (64, 96), (160, 320)))
    assert parameters(MobileNetV2(1000, stem="imagenet")) == 3_504_872 + expansion + shortcuts


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize(("stem", "side"), [("cifar", 32), ("cifar", 33), ("cifar", 96), ("imagenet", 128)])
def test_maps_images_to_logits(name: str, stem: Stem, side: int) -> None:
    assert NARROW[name](stem).eval()(images(2, side)).shape == (2, 3)


@pytest.mark.parametrize(("name", "reductions"), [("googlenet", (1, 8)), ("densenet", (1, 4)), ("mobilenet", (1, 2))])
def test_stem_keeps_the_side_or_reduces_it(name: str, reductions: tuple[int, int]) -> None:
    stems: tuple[Stem, Stem] = ("cifar", "imagenet")
    for stem, reduction in zip(stems, reductions, strict=True):
        first = NARROW[name](stem).get_submodule("stem")
        assert first(images(1, 64)).shape[-1] == 64 // reduction


@pytest.mark.parametrize(
    ("name", "layer", "cifar", "imagenet"),
    [("googlenet", "stage5", 8, 4), ("densenet", "features", 4, 4), ("mobilenet", "last", 4, 4)],
)
def test_last_features_have_the_usual_side(name: str, layer: str, cifar: int, imagenet: int) -> None:
    """Sides for images of 32 px and of 128 px."""
    sides: list[int] = []
    stems: tuple[tuple[Stem, int], ...] = (("cifar", 32), ("imagenet", 128))
    for stem, side in stems:
        network = NARROW[name](stem).eval()
        network.get_submodule(layer).register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
        network(images(1, side))
    assert sides == [cifar, imagenet]


@pytest.mark.parametrize("name", NARROW)
def test_every_parameter_gets_a_gradient_and_a_step_lowers_the_loss(name: str) -> None:
    network = seeded(lambda: NARROW[name]("cifar"))
    batch, labels = images(6, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    before = nn.functional.cross_entropy(network(batch), labels)
    before.backward()  # type: ignore[no-untyped-call]
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0
    # As long as a step that would lower a linear loss by a hundredth; a fixed rate is too long for some networks.
    slope = sum(
        parameter.grad.square().sum().item() for parameter in network.parameters() if parameter.grad is not None
    )
    torch.optim.SGD(network.parameters(), lr=0.01 * before.item() / slope).step()
    after = nn.functional.cross_entropy(network(batch), labels)
    assert 0.98 * before < after < 0.995 * before


@pytest.mark.parametrize("name", ["googlenet", "densenet121", "mobilenetv2"])
def test_weights_are_those_of_the_seed(name: str) -> None:
    one, same, other = (build(name, 2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["body.linear.weight"], other["body.linear.weight"])


def test_conv_unit_is_the_relu_of_the_normalised_convolution() -> None:
    unit = ConvNormReLU(1, 1).eval()
    nn.init.ones_(unit.conv.weight)
    unit.norm.running_mean = torch.tensor([5.0])
    unit.norm.running_var = torch.tensor([4.0])
    unit.norm.eps = 0.0
    # Sums of 3 x 3 neighbours of ones, zeros beyond the border: 4 in the corners, 6 at the edges, 9 in the middle.
    assert unit(torch.ones(1, 1, 3, 3)).flatten().tolist() == [0, 0.5, 0, 0.5, 2, 0.5, 0, 0.5, 0]


def test_inception_joins_its_branches_in_the_order_of_the_paper() -> None:
    module = Inception(8, Widths(1, 2, 3, 4, 5, 6)).eval()
    x = images(1, 8)[:, :1].expand(-1, 8, -1, -1)
    parts = torch.split(module(x), [1, 3, 5, 6], dim=1)
    branches = (module.branch1, module.branch3, module.branch5, module.pool)
    assert all(torch.equal(part, branch(x)) for part, branch in zip(parts, branches, strict=True))


def test_dense_layer_keeps_its_input_and_adds_channels() -> None:
    x = torch.randn(2, 6, 4, 4)
    out = DenseLayer(6, 5).eval()(x)
    assert out.shape == (2, 11, 4, 4)
    assert torch.equal(out[:, :6], x)


@pytest.mark.parametrize(("stride", "outputs"), [(1, 4), (1, 6), (2, 4), (2, 6)])
def test_inverted_residual_has_a_shortcut_where_the_side_stays(stride: int, outputs: int) -> None:
    block = InvertedResidual(4, outputs, expansion=2, stride=stride).eval()
    nn.init.zeros_(block.project[1].weight)  # type: ignore[arg-type]
    x = torch.randn(1, 4, 8, 8)
    out = block(x)
    assert out.shape == (1, outputs, 8 // stride, 8 // stride)
    assert bool(out.any()) == (stride == 1)
    assert torch.equal(out, x) == (stride == 1 and outputs == 4)


def test_inverted_residual_filters_each_channel_by_itself() -> None:
    block = InvertedResidual(2, 2, expansion=3, stride=1)
    assert block.filter.conv.weight.shape == (6, 1, 3, 3)
