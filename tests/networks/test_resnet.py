import pytest
import torch
from torch import nn

from withhold.networks.resnet import BasicBlock, CifarResNet, ConvUnit, PaddedShortcut, ResidualPair, ResNet, ResNet9


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_resnet18_with_imagenet_stem_has_the_published_size() -> None:
    # 11,689,512 parameters with 1000 classes, as in torchvision's table of weights.
    assert parameters(ResNet(1000, (2, 2, 2, 2), stem="imagenet")) == 11_689_512


def test_resnet34_with_imagenet_stem_has_the_published_size() -> None:
    assert parameters(ResNet(1000, (3, 4, 6, 3), stem="imagenet")) == 21_797_672


def test_resnet18_with_cifar_stem_has_the_known_size() -> None:
    assert parameters(ResNet(10, (2, 2, 2, 2), stem="cifar")) == 11_173_962


def test_resnet20_has_the_published_size() -> None:
    # 0.27 M in table 6 of He et al. (2016); 269,722 with option A shortcuts and two affine numbers per norm channel.
    assert parameters(CifarResNet(10, blocks=3)) == 269_722


def test_resnet9_has_the_size_that_its_widths_give() -> None:
    convolutions = 9 * (3 * 16 + 16 * 32 + 2 * 32 * 32 + 32 * 64 + 64 * 128 + 2 * 128 * 128)
    norms = 2 * (16 + 32 + 2 * 32 + 64 + 128 + 2 * 128)
    assert parameters(ResNet9(10, width=16)) == convolutions + norms + 128 * 10 + 10


@pytest.mark.parametrize(
    ("network", "side"),
    [
        (ResNet9(7, width=4), 32),
        (ResNet9(7, width=4), 13),
        (ResNet(7, (1, 1, 1, 1), width=4, stem="cifar"), 32),
        (ResNet(7, (1, 1, 1, 1), width=4, stem="imagenet"), 96),
        (CifarResNet(7, blocks=1), 32),
    ],
)
def test_maps_images_to_logits(network: nn.Module, side: int) -> None:
    assert network.eval()(torch.rand(3, 3, side, side)).shape == (3, 7)


def test_imagenet_stem_reduces_the_side_by_four_and_cifar_stem_keeps_it() -> None:
    sides: dict[str, int] = {}
    for stem in ("cifar", "imagenet"):
        network = ResNet(2, (1, 1, 1, 1), width=4, stem=stem).eval()
        network.layer1.register_forward_hook(lambda _m, _i, out, stem=stem: sides.update({stem: out.shape[-1]}))
        network(torch.rand(1, 3, 64, 64))
    assert sides == {"cifar": 64, "imagenet": 16}


def test_basic_block_with_zero_branch_is_relu_of_its_input() -> None:
    block = BasicBlock(2, 2, 1).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.tensor([[[[-1.0, 2.0]], [[3.0, -4.0]]]])
    assert torch.equal(block(x), x.relu())


def test_residual_pair_with_zero_branch_is_the_identity() -> None:
    pair = ResidualPair(2).eval()
    nn.init.zeros_(pair.second.conv.weight)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(pair(x), x)


def test_conv_unit_pools_before_the_norm() -> None:
    unit = ConvUnit(1, 1, pool=True).eval()
    nn.init.zeros_(unit.conv.weight)
    with torch.no_grad():
        unit.conv.weight[0, 0, 1, 1] = 1.0
        unit.norm.weight.fill_(-1.0)  # negative: the maximum must be taken before, or the minimum would come out
        unit.norm.bias.fill_(10.0)
        unit.norm.eps = 0.0
    assert unit(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).item() == 6.0


def test_padded_shortcut_takes_every_second_pixel_and_adds_zero_channels_on_both_sides() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4) + 1
    out = PaddedShortcut(2)(x)
    assert out.shape == (1, 3, 2, 2)
    assert out[0, 1].tolist() == [[1.0, 3.0], [9.0, 11.0]]
    assert out[0, 0].abs().sum() + out[0, 2].abs().sum() == 0
