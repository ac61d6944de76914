"""Weights on disk: ours as self-describing safetensors; foreign state dicts read without running any code in them."""

import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.networks.classifier import Classifier
from withhold.networks.table import build, is_path

KEY = "withhold"
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
PREFIXES = ("module.", "_orig_mod.", "body.", "model.")
SHOWN = 3


class Metadata(pydantic.BaseModel):
    """What a weights file of ours says about itself.

    Attributes:
        snapshots: Networks in the file: earlier ones of the same training, then the final one.
        accuracy: Share of the owner's images that the final network gets right, in [0, 1].
        details: Whatever else should be kept, such as the training recipe.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    architecture: str
    classes: int
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    head: str = "softmax"
    snapshots: int = 1
    accuracy: float | None = None
    details: dict[str, str | int | float | bool | None] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """Networks of one file, in eval mode on the CPU, the final one last; foreign files have no metadata."""

    networks: tuple[Classifier, ...]
    metadata: Metadata | None


def encode(
    networks: Sequence[Classifier], *, accuracy: float | None = None, details: Mapping[str, str | int | float] = {}
) -> bytes:
    """Turn snapshots of one network, the final one last, into safetensors bytes; equal input, equal bytes."""
    final = networks[-1]
    metadata = Metadata.model_validate(
        {
            "architecture": final.architecture,
            "classes": final.classes,
            "input_size": final.input_size,
            "mean": final.mean,
            "std": final.std,
            "head": final.head,
            "snapshots": len(networks),
            "accuracy": accuracy,
            "details": dict(details),
        }
    )
    tensors = {
        _prefix(index, len(networks)) + name: value.detach().cpu().contiguous()
        for index, network in enumerate(networks)
        for name, value in network.body.state_dict().items()
    }
    return safetensors.torch.save(tensors, {KEY: metadata.model_dump_json()})


def save(
    path: Path,
    networks: Sequence[Classifier],
    *,
    accuracy: float | None = None,
    details: Mapping[str, str | int | float] = {},
) -> None:
    """Write `encode`'s bytes; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(encode(networks, accuracy=accuracy, details=details))
    os.replace(temporary, path)  # noqa: PTH105


def load(
    path: Path,
    *,
    classes: int | None,
    architecture: str | None = None,
    input_size: int | None = None,
    default_size: int = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    head: str | None = None,
) -> Loaded:
    """Load networks from a safetensors file or a PyTorch state dict.

    Args:
        classes: Number that the weights must distinguish; None takes whatever number a file of ours says.
        architecture: As in `build`; needed for files that do not describe themselves.
        input_size, mean, std, head: As in `build`; if absent what the file says.
        default_size: As in `build`.

    Raises:
        InvalidInput: The file is no weights file, holds code, or its weights do not fit the architecture and classes.
    """
    if not path.is_file():
        msg = f"there is no weights file {path}."
        raise InvalidInput(msg)
    state, metadata = _read_safetensors(path) if _is_safetensors(path) else (_read_pickle(path), None)
    named = _architecture(path, architecture, metadata)
    classes = _classes(path, classes, metadata)
    if metadata is not None:
        input_size, mean, std = input_size or metadata.input_size, mean or metadata.mean, std or metadata.std
        head = head or metadata.head
    networks = []
    for part in _snapshots(state, metadata):
        network = build(
            named,
            classes,
            input_size=input_size,
            default_size=default_size,
            mean=mean,
            std=std,
            head=head or "softmax",
        )
        _fill(network, part, path)
        networks.append(network)
    return Loaded(tuple(networks), metadata)


def _snapshots(state: Mapping[str, Tensor], metadata: Metadata | None) -> Iterator[Mapping[str, Tensor]]:
    if metadata is None or metadata.snapshots == 1:
        yield state
        return
    for index in range(metadata.snapshots):
        prefix = _prefix(index, metadata.snapshots)
        yield {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _prefix(index: int, count: int) -> str:
    return f"snapshot{index}." if count > 1 else ""


def _is_safetensors(path: Path) -> bool:
    # By content: the header's length, then its JSON. A suffix may lie.
    with path.open("rb") as file:
        start = file.read(9)
    return path.suffix == ".safetensors" or start[8:9] == b"{"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Metadata | None]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get(KEY)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return state, Metadata.model_validate_json(described) if described is not None else None
    except (safetensors.SafetensorError, OSError, pydantic.ValidationError, json.JSONDecodeError) as error:
        msg = f"{path} is not a complete safetensors file: {str(error).splitlines()[0]}."
        raise InvalidInput(msg) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # About pickle protocols and formats that torch may not read; where it cannot, it raises as well.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        msg = (
            f"{path} is not a plain state dict: it is damaged, or it holds code or whole Python objects, "
            "which are never run. Save the weights alone: torch.save(network.state_dict(), path), or safetensors."
        )
        raise InvalidInput(msg) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        msg = f"{path} is not a complete PyTorch weights file: {(str(error) or type(error).__name__).splitlines()[0]}."
        raise InvalidInput(msg) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        msg = f"{path} must hold a state dict, that is tensors by name, alone or under one of {', '.join(WRAPPERS)}."
        raise InvalidInput(msg)
    return content


def _architecture(path: Path, given: str | None, metadata: Metadata | None) -> str:
    if given is not None:
        return given
    if metadata is None:
        msg = f"{path} does not say which network its weights belong to; name it with --architecture."
        raise InvalidInput(msg)
    if is_path(metadata.architecture):
        # The file may be a stranger's, and building such a network imports what it names.
        msg = f"{path} asks for the network {metadata.architecture!r}; if you trust it, name it with --architecture."
        raise InvalidInput(msg)
    return metadata.architecture


def _classes(path: Path, expected: int | None, metadata: Metadata | None) -> int:
    found = metadata.classes if metadata is not None else expected
    if found is None:
        msg = f"{path} does not say how many classes its weights distinguish; use a file that Withhold wrote."
        raise InvalidInput(msg)
    if expected is not None and found != expected:
        raise InvalidInput(_wrong_classes(path, found, expected))
    return found


def _fill(network: Classifier, state: Mapping[str, Tensor], path: Path) -> None:
    expected = network.body.state_dict()
    state = _without_prefixes(state, expected)
    # Old files lack these counters, which nothing but a cumulative average reads.
    state = {**{name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}, **state}
    missing, unexpected = [n for n in expected if n not in state], [n for n in state if n not in expected]
    if missing or unexpected:
        parts = [
            f"{len(names)} tensors are {what} ({_some(names)})"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        what = " and ".join(parts)
        msg = f"{path} does not hold the weights of {network.architecture}: {what}. Is --architecture right?"
        raise InvalidInput(msg)
    differing = [name for name in expected if expected[name].shape != state[name].shape]
    if differing:
        raise InvalidInput(_wrong_shapes(path, network, differing, state, expected))
    broken = [name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        msg = f"{path} holds values that are not finite, in {_some(broken)}; its training diverged. Use another file."
        raise InvalidInput(msg)
    network.body.load_state_dict(dict(state))
    network.ready = True
    network.eval()


def _without_prefixes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = dict(state)
    while not result.keys() & expected.keys():
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in result)), None)
        if prefix is None or not result:
            break
        result = {name.removeprefix(prefix): value for name, value in result.items()}
    return result


def _wrong_shapes(
    path: Path, network: Classifier, names: Sequence[str], state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> str:
    found = {state[name].shape[0] for name in names if state[name].ndim}
    only_classes = len(found) == 1 and all(
        expected[name].shape[:1] == (network.classes,) and expected[name].shape[1:] == state[name].shape[1:]
        for name in names
    )
    if only_classes:
        return _wrong_classes(path, found.pop(), network.classes)
    first = names[0]
    return (
        f"{path} does not fit {network.architecture}: {first} should be {tuple(expected[first].shape)} and is "
        f"{tuple(state[first].shape)}; {len(names)} tensors differ. Are --architecture and --input-size right?"
    )


def _wrong_classes(path: Path, found: int, expected: int) -> str:
    return f"the weights in {path} distinguish {found} classes, the dataset has {expected}; use weights of its classes."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
