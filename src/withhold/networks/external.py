"""Networks from elsewhere: a function of the user's own, timm, transformers. Libraries are imported when asked for."""

import importlib
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_SIDE = 224

LONGEST_REASON = 300
"""Characters of a library's message; some list all the names that they know."""

PLAIN = {"attn_implementation": "eager", "dtype": torch.float32}
"""For transformers: its fused attention kernels can be differentiated neither forwards nor twice."""


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A network that takes normalised images, and what its source says about it.

    Attributes:
        ready: It needs no training for this number of classes, because its classification layer came with weights.
    """

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int | None
    ready: bool = False


def function_at(path: str) -> Callable[..., Any]:
    """Import `module:function`.

    The current folder is searched too, since a console script does not do so by itself.

    Raises:
        InvalidInput: There is no such module or function.
    """
    module_name, _, function_name = path.partition(":")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"cannot import {path!r}: {error}. Expected module:function, found from the current folder or installed."
        raise InvalidInput(msg) from error
    finally:
        sys.path.remove(here)
    return function


def from_function(path: str, classes: int) -> Body:
    """Call `module:function` with the number of classes; without mean and std its network takes pixels in [0, 1]."""
    function = function_at(path)
    try:
        network = function(classes)
    except TypeError as error:
        msg = f"{path} must be callable as function(classes) and return a torch.nn.Module; calling it failed: {error}."
        raise InvalidInput(msg) from error
    if not isinstance(network, nn.Module):
        msg = f"{path} must return a torch.nn.Module; it returned {type(network).__name__}."
        raise InvalidInput(msg)
    return Body(network, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), None)


def from_timm(name: str, classes: int) -> Body:
    """Load a pretrained timm model with a classification layer of the right size."""
    return _timm_body(name, classes, pretrained=True)


def untrained_from_timm(name: str, classes: int) -> Body:
    """Build a timm model with random weights; input size and channel statistics are those of its published ones."""
    return _timm_body(name, classes, pretrained=False)


def _timm_body(name: str, classes: int, *, pretrained: bool) -> Body:
    # timm needs a torchvision that works with the installed torch; one that does not makes its import fail.
    try:
        import timm  # noqa: PLC0415
    except (ImportError, RuntimeError) as error:
        raise InvalidInput(_not_installed("timm", "zoo", error)) from error
    try:
        model: Any = timm.create_model(name, pretrained=pretrained, num_classes=classes)
    except (RuntimeError, OSError, ValueError) as error:
        listing = "timm.list_models(pretrained=True)" if pretrained else "timm.list_models()"
        msg = f"timm cannot load {name!r}: {_first_line(error)}. `{listing}` names what there is."
        raise InvalidInput(msg) from error
    config = model.pretrained_cfg
    return Body(
        model,
        tuple(config.get("mean", IMAGENET_MEAN)),
        tuple(config.get("std", IMAGENET_STD)),
        int(config.get("input_size", (3, IMAGENET_SIDE, IMAGENET_SIDE))[-1]),
        ready=pretrained and config.get("num_classes") == classes,
    )


class Logits(nn.Module):
    """A transformers classifier that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (b, 3, h, w) to logits (b, classes)."""
        logits: Tensor = self.model(pixel_values=images).logits
        return logits


def from_transformers(name: str, classes: int) -> Body:
    """Load a transformers image classifier, by hub name or folder, with a classification layer of the right size."""
    load: Callable[..., Any] = _transformers("AutoModelForImageClassification").from_pretrained
    how = {**PLAIN, "ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        with _quiet_transformers():
            model, report = load(name, num_labels=classes, **how)
    except (OSError, ValueError, RuntimeError) as error:
        msg = f"transformers cannot load an image classifier from {name!r}: {_first_line(error)}."
        raise InvalidInput(msg) from error
    ready = not report["missing_keys"] and not report["mismatched_keys"]
    return _transformers_body(model, _preprocessing(name), ready=ready)


def untrained_from_transformers(name: str, classes: int) -> Body:
    """Build a transformers image classifier with random weights.

    Its shape is that of a folder's `config.json`, or the default of a model type. Nothing is downloaded: a hub name
    works only where its configuration has been fetched before.
    """
    classifier = _transformers("AutoModelForImageClassification")
    try:
        with _quiet_transformers():
            model = classifier.from_config(_configuration(name, classes), **PLAIN)
    except (OSError, ValueError, RuntimeError) as error:
        msg = (
            f"transformers cannot build an image classifier from {name!r}: {_first_line(error)}. "
            "Expected a folder with a config.json or a model type such as vit, resnet or convnext."
        )
        raise InvalidInput(msg) from error
    return _transformers_body(model, _preprocessing(name, local_files_only=True), ready=False)


def _configuration(name: str, classes: int) -> Any:  # noqa: ANN401 - untyped library
    configurations = _transformers("AutoConfig")
    if re.fullmatch(r"[\w-]+", name) and not Path(name).is_dir():
        return configurations.for_model(name, num_labels=classes)
    return configurations.from_pretrained(name, num_labels=classes, local_files_only=True)


def _transformers_body(model: Any, pixels: Mapping[str, Any], *, ready: bool) -> Body:  # noqa: ANN401 - untyped library
    return Body(
        Logits(model),
        _three(pixels.get("image_mean"), IMAGENET_MEAN),
        _three(pixels.get("image_std"), IMAGENET_STD),
        _side(pixels.get("crop_size")) or _side(pixels.get("size")) or _side(getattr(model.config, "image_size", None)),
        ready,
    )


def _transformers(name: str) -> Any:  # noqa: ANN401 - untyped library
    """Import a class of transformers; it imports its own modules when a class is asked for."""
    try:
        return getattr(importlib.import_module("transformers"), name)
    except (ImportError, RuntimeError) as error:
        raise InvalidInput(_not_installed("transformers", "hub", error)) from error


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the library's report of a replaced classification layer, which is what was asked for."""
    from transformers.utils import logging  # noqa: PLC0415

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _preprocessing(name: str, *, local_files_only: bool = False) -> dict[str, Any]:
    from transformers.image_processing_base import ImageProcessingMixin  # noqa: PLC0415

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(name, local_files_only=local_files_only)
    except (OSError, ValueError):
        return {}
    return dict(found)


def _three(values: Sequence[float] | None, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(value) for value in values) if values else otherwise


def _side(size: Any) -> int | None:  # noqa: ANN401 - written by many libraries: a number, a pair or one of several dicts
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, list | tuple):
        size = size[0] if size else None
    return int(size) if size else None


def _not_installed(library: str, extra: str, error: Exception) -> str:
    return (
        f"{library} cannot be imported ({_first_line(error)}). "
        f"Install it with: pip install 'withhold[{extra}]'. The built-in networks need nothing more."
    )


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return textwrap.shorten(line, LONGEST_REASON, placeholder=" ...").rstrip(".")
