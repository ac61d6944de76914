"""From the files of a protector to one that computes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from withhold import craft
from withhold.craft.alignment import Direction
from withhold.errors import InvalidInput
from withhold.networks.checkpoint import load as load_networks
from withhold.networks.choose import resolve_device
from withhold.online.folder import DIRECTIONS, GENERATOR, SURROGATE, Document, Stored, open_to_others, read_folder
from withhold.online.generator import Generator
from withhold.online.lanes import LaneCrafter
from withhold.progress import Reporter
from withhold.release.crafter import GradientCrafter, Reference, margin_of
from withhold.release.environment import Environment
from withhold.release.surrogate import named_network
from withhold.version import __version__


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What a protector computes with.

    Attributes:
        differences: How this machine is unlike the one that the protector was prepared on, where that may change bits.
    """

    document: Document
    key: bytes
    crafter: LaneCrafter
    differences: tuple[str, ...]


def load(folder: Path, *, device: str | None, allow_differences: bool, reporter: Reporter) -> Loaded:
    """Load a protector's parts; see `Protector.load`."""
    stored = read_folder(folder)
    document = stored.document
    differences = check_environment(stored, Environment.here(device or document.device), allow=allow_differences)
    for difference in differences:
        reporter.say(f"Images come out otherwise than on the machine that prepared the protector: {difference}.")
    if open_to_others(folder):
        reporter.say(f"Warning: other users of this machine may read the key in {folder}; run chmod 600 on it.")
    crafter = lane_crafter(stored, resolve_device(device or document.device))
    return Loaded(document, stored.key, crafter, tuple(differences))


def check_environment(stored: Stored, here: Environment, *, allow: bool) -> list[str]:
    """Say how this machine differs from the one that prepared a protector, where that may change the last bits.

    Raises:
        InvalidInput: PyTorch's version or the type of device is another one, and that is not allowed.
    """
    document = stored.document
    differences = Environment(document.torch, document.device, document.threads).differences(here)
    if differences and not allow:
        msg = (
            f"the protector {stored.folder} would give other images here than where it was prepared: "
            f"{'; '.join(differences)}. Use what it was prepared with, prepare a new one here, or allow differences."
        )
        raise InvalidInput(msg)
    others = [
        ("Withhold", document.version, __version__),
        ("the processor", document.processor, processor(here.device)),
    ]
    return differences + [f"{what} was {before} and is now {now}" for what, before, now in others if before != now]


def processor(device: str) -> str:
    """Name what chooses among the ways to compute on a type of device: its instruction set, or its model."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return torch.backends.cpu.get_cpu_capability() if device == "cpu" else device


def lane_crafter(stored: Stored, device: torch.device) -> LaneCrafter:
    """Rebuild what crafts from the files of a protector.

    Raises:
        InvalidInput: The networks do not fit what the document says.
    """
    document, settings = stored.document, stored.document.settings
    place = stored.folder / SURROGATE
    networks = load_networks(place, classes=len(document.classes), architecture=named_network(settings)).networks
    directions = directions_of(stored.files, len(networks))
    surrogates = tuple(
        Reference(frozen(network, device), margin_of(network), {key: _to(own[key], device) for key in own})
        for network, own in zip(networks, directions, strict=True)
    )
    crafter = GradientCrafter(surrogates, settings, document.crop_size)
    return LaneCrafter(crafter, document.input_size, generator_of(document, stored.files, device), document.lanes)


def frozen(network: nn.Module, device: torch.device) -> nn.Module:
    """Prepare a network for crafting, as a run does."""
    network.requires_grad_(requires_grad=False).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return craft.fold_batch_norm(network)


def generator_of(document: Document, files: Mapping[str, bytes], device: torch.device) -> Generator:
    """Rebuild the generator.

    Raises:
        InvalidInput: The weights do not fit.
    """
    generator = Generator(document.generator)
    try:
        generator.load_state_dict(safetensors.torch.load(files[GENERATOR]))
    except RuntimeError as error:
        msg = f"{GENERATOR} does not hold a generator of {document.generator}: {str(error).splitlines()[-1].strip()}"
        raise InvalidInput(msg) from error
    generator.requires_grad_(requires_grad=False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator.eval()


def encode_directions(surrogates: Sequence[Reference]) -> bytes | None:
    """Turn the directions of surrogates into safetensors bytes; None if they have none."""
    tensors = {
        f"{number}/{label}/{index}": part.detach().cpu().contiguous()
        for number, surrogate in enumerate(surrogates)
        for label, direction in surrogate.directions.items()
        for index, part in enumerate(direction)
    }
    return safetensors.torch.save(tensors) if tensors else None


def directions_of(files: Mapping[str, bytes], surrogates: int) -> list[dict[int, Direction]]:
    """Read the directions of each surrogate, by class label; empty where there are none."""
    found: list[dict[int, list[Tensor]]] = [{} for _ in range(surrogates)]
    if DIRECTIONS in files:
        tensors = safetensors.torch.load(files[DIRECTIONS])
        for number, label, _, name in sorted(_places(tensors)):
            found[number].setdefault(label, []).append(tensors[name])
    return [{label: tuple(parts) for label, parts in own.items()} for own in found]


def _places(names: Mapping[str, Tensor]) -> Iterator[tuple[int, int, int, str]]:
    for name in names:
        number, label, index = map(int, name.split("/"))
        yield number, label, index, name


def _to(direction: Direction, device: torch.device) -> Direction:
    return tuple(part.to(device) for part in direction)
