"""The network, its input size and the device when the user names none, with the reason to say aloud."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from withhold.errors import InvalidInput
from withhold.networks.table import LARGEST_FULL_RESOLUTION

Views = Literal["native", "crop"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Summary of a set's image sizes in pixels.

    Attributes:
        uniform_side: Side of the square that every image is, or None if they differ or are no squares.
        median_side: Median of the shorter sides.
    """

    uniform_side: int | None
    median_side: int

    @staticmethod
    def of(sizes: Iterable[tuple[int, int]]) -> "Sizes":
        """Summarise (width, height) pairs.

        >>> Sizes.of([(32, 32), (32, 32)])
        Sizes(uniform_side=32, median_side=32)
        >>> Sizes.of([(32, 32), (64, 48)])
        Sizes(uniform_side=None, median_side=40)
        """
        listed = list(sizes)
        if not listed:
            msg = "there are no images to choose a network for."
            raise InvalidInput(msg)
        shorter = [min(size) for size in listed]
        sides = {side for size in listed for side in size}
        return Sizes(sides.pop() if len(sides) == 1 else None, int(statistics.median(shorter)))


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        views: `native` if the network sees whole images as they are, `crop` if it sees random resized crops.
        reason: One sentence for the user.
    """

    architecture: str
    input_size: int
    views: Views
    reason: str


def choose(sizes: Sizes, device: torch.device) -> Choice:
    """Choose a network that trains in minutes on the device and sees images as a trainer of this set would."""
    cpu = device.type == "cpu"
    side = sizes.uniform_side or sizes.median_side
    small = side <= LARGEST_FULL_RESOLUTION
    architecture = ("resnet9" if cpu else "resnet18") if small else ("resnet10-narrow" if cpu else "resnet18")
    if small and sizes.uniform_side is not None and side >= 8:  # noqa: PLR2004
        seen, size, views = f"all images are {side} x {side}", side, "native"
    elif small:
        size, views = max(24, 8 * round(side / 8)), "crop"
        seen = f"the images are small and of different sizes, about {side} px"
    else:
        size, views = (112 if cpu else min(224, 32 * -(-side // 32))), "crop"
        seen = f"the images are large, about {side} px"
    way = "sees them whole" if views == "native" else f"sees random crops resized to {size} x {size}"
    reason = f"Since {seen} and the device is {device.type}, the surrogate is {architecture}, which {way}."
    return Choice(architecture, size, "native" if views == "native" else "crop", reason)


def choose_for_faces(sizes: Sizes, device: torch.device) -> Choice:
    """Choose a recogniser that sees aligned faces whole and trains in minutes on the device.

    Args:
        sizes: Of the aligned faces; all are squares of one size.
    """
    side = sizes.uniform_side or sizes.median_side
    architecture = "iresnet10-narrow" if device.type == "cpu" else "iresnet18"
    reason = (
        f"Since the task is faces and the device is {device.type}, the surrogate is {architecture}, which sees aligned "
        f"faces of {side} x {side} whole."
    )
    return Choice(architecture, side, "native", reason)


def resolve_devices(names: str) -> tuple[torch.device, ...]:
    """Turn names with commas between them, such as `cuda:0,cuda:1`, into devices that are there.

    Raises:
        InvalidInput: One of them is not on this machine.
    """
    return tuple(resolve_device(name.strip()) for name in names.split(","))


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    Raises:
        InvalidInput: No such device on this machine.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"unknown device {name!r}; expected auto, cpu, cuda, cuda:1 or mps."
        raise InvalidInput(msg) from error
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= present.get(device.type, 0):
        msg = f"device {name!r} is not present on this machine; use --device auto or cpu."
        raise InvalidInput(msg)
    return device
