import pytest
import torch

from withhold.errors import InvalidInput
from withhold.networks.choose import Sizes, choose, resolve_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("sizes", "device", "expected"),
    [
        (Sizes(32, 32), CPU, ("resnet9", 32, "native")),
        (Sizes(32, 32), CUDA, ("resnet18", 32, "native")),
        (Sizes(28, 28), CPU, ("resnet9", 28, "native")),
        (Sizes(96, 96), CUDA, ("resnet18", 96, "native")),
        (Sizes(None, 45), CPU, ("resnet9", 48, "crop")),
        (Sizes(None, 12), CUDA, ("resnet18", 24, "crop")),
        (Sizes(112, 112), CPU, ("resnet10-narrow", 112, "crop")),
        (Sizes(112, 112), CUDA, ("resnet18", 128, "crop")),
        (Sizes(224, 224), CUDA, ("resnet18", 224, "crop")),
        (Sizes(None, 800), CUDA, ("resnet18", 224, "crop")),
        (Sizes(None, 800), CPU, ("resnet10-narrow", 112, "crop")),
    ],
)
def test_choice_follows_size_and_device(sizes: Sizes, device: torch.device, expected: tuple[str, int, str]) -> None:
    choice = choose(sizes, device)
    assert (choice.architecture, choice.input_size, choice.views) == expected


def test_the_reason_names_size_device_and_network() -> None:
    assert choose(Sizes(32, 32), CPU).reason == (
        "Since all images are 32 x 32 and the device is cpu, the surrogate is resnet9, which sees them whole."
    )
    assert "random crops resized to 224 x 224" in choose(Sizes(None, 800), CUDA).reason


def test_sizes_of_uniform_rectangles_are_not_uniform_squares() -> None:
    assert Sizes.of([(40, 32), (40, 32)]) == Sizes(None, 32)


def test_sizes_of_nothing_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no images"):
        Sizes.of([])


def test_auto_device_is_present() -> None:
    assert torch.zeros(1, device=resolve_device("auto")).item() == 0


def test_named_devices() -> None:
    assert resolve_device("cpu") == CPU
    with pytest.raises(InvalidInput, match="unknown device 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(InvalidInput, match="'cuda:99' is not present"):
        resolve_device("cuda:99")
