"""Extractors of embeddings: a user's own recogniser as a judge of faces, or with a new head as a surrogate."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.networks.checkpoint import load
from withhold.networks.classifier import Classifier, wrap
from withhold.networks.external import Body, function_at
from withhold.networks.head import features
from withhold.networks.iresnet import Recogniser
from withhold.networks.margins import add_head
from withhold.networks.normalise import Normalise
from withhold.networks.table import HALF
from withhold.networks.training import as_unit

BATCH = 100
"""Images embedded at a time."""

CHANNELS = {1, 3}


class Extractor(Protocol):
    """Maps images to points on a sphere; the cosine of two says how alike the faces are.

    Attributes:
        name: For messages and reports.
        input_size: Side of the square images it takes, or None if it does not say.
    """

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    @property
    def input_size(self) -> int | None:
        """Return the side it takes."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """Map images (n, 1 or 3, h, w), uint8 or float in [0, 1], to float32 (n, d) of unit length on the CPU.

        Raises:
            InvalidInput: Images of another shape, type or range, or embeddings that are no finite vectors.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Embedder:
    """An extractor made of a function; it checks what goes in and what comes out.

    Attributes:
        run: Maps float images (b, 1 or 3, h, w) in [0, 1], on the CPU, to embeddings (b, d) of any length.
        batch: Images that `run` gets at a time; the last batch may hold fewer.
    """

    name: str
    input_size: int | None
    run: Callable[[Tensor], Any]
    batch: int = BATCH

    def embed(self, images: Tensor) -> Tensor:
        """See `Extractor.embed`."""
        self._check_images(images)
        with torch.no_grad():
            parts = [self._embedded(as_unit(part)) for part in torch.split(images, self.batch)]
        return torch.cat(parts)

    def _check_images(self, images: Tensor) -> None:
        shape = tuple(images.shape)
        if images.ndim != 4 or not len(images) or shape[1] not in CHANNELS:  # noqa: PLR2004
            msg = f"{self.name} embeds one or more images of shape (n, 1 or 3, h, w); got shape {shape}."
            raise InvalidInput(msg)
        if self.input_size is not None and shape[2:] != (self.input_size, self.input_size):
            msg = (
                f"{self.name} takes images of {self.input_size} x {self.input_size}; got {shape[3]} x {shape[2]}. "
                "Align and resize the faces to its size first."
            )
            raise InvalidInput(msg)
        low, high = images.aminmax()
        if images.dtype != torch.uint8 and not (images.is_floating_point() and low >= 0 and high <= 1):
            msg = (
                f"{self.name} embeds pixels as uint8, or as floats in [0, 1]; got {images.dtype} from {low.item()} to "
                f"{high.item()}."
            )
            raise InvalidInput(msg)

    def _embedded(self, images: Tensor) -> Tensor:
        try:
            embeddings = self.run(images)
        except InvalidInput:
            raise
        except Exception as error:  # the user's code, which may raise anything
            msg = f"{self.name} cannot embed images of shape {tuple(images.shape)}: {error}."
            raise InvalidInput(msg) from error
        if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or len(embeddings) != len(images):  # noqa: PLR2004
            found = tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
            msg = (
                f"{self.name} must map {len(images)} images to a tensor ({len(images)}, d) of embeddings; got {found}."
            )
            raise InvalidInput(msg)
        plain = embeddings.detach().float().cpu()
        broken = ~plain.isfinite().all(1) | (plain.norm(dim=1) == 0)
        if broken.any():
            msg = (
                f"{self.name} gave {int(broken.sum())} of {len(images)} embeddings that are not finite or all zero; "
                "are its weights complete, and does it take pixels in [0, 1]?"
            )
            raise InvalidInput(msg)
        return F.normalize(plain)


def of_network(network: Classifier, name: str | None = None) -> Embedder:
    """Make an extractor of a classifier, on its device: the embedding is what its classification layer reads."""
    network.eval()
    device = next(network.parameters()).device
    return Embedder(
        name or network.architecture, network.input_size, lambda images: features(network, images.to(device))
    )


def of_module(module: nn.Module, name: str, *, device: torch.device, input_size: int | None = None) -> Embedder:
    """Make an extractor of a network that maps pixels in [0, 1] to embeddings."""
    module.to(device).eval()
    return Embedder(name, input_size, lambda images: module(images.to(device)))


def of_onnx(
    path: Path,
    *,
    mean: tuple[float, float, float] = HALF,
    std: tuple[float, float, float] = HALF,
    name: str | None = None,
) -> Embedder:
    """Make an extractor of an ONNX file with one input (n, 3, side, side), RGB, whose first output is the embedding.

    It runs on the CPU and for scoring only, since ONNX Runtime gives no gradients.

    Args:
        mean: Of the pixels in [0, 1], subtracted first; the default is what recognisers of faces mostly take.
        std: Divided by afterwards.

    Raises:
        InvalidInput: No such file, onnxruntime is not installed or cannot read it, or another kind of network.
    """
    if not path.is_file():
        msg = f"there is no ONNX file {path}."
        raise InvalidInput(msg)
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        msg = f"{path} needs onnxruntime ({error}). Install it with: pip install 'withhold[onnx]'."
        raise InvalidInput(msg) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; it warns of devices that are not there
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        msg = f"onnxruntime cannot read {path}: {error}."
        raise InvalidInput(msg) from error
    batch, side = _onnx_input(path, session)
    normalise = Normalise(mean, std)

    def run(images: Tensor) -> Tensor:
        missing = (batch or len(images)) - len(images)  # a file made for batches of one size gets no smaller one
        filled = torch.cat([images, images[:1].expand(missing, -1, -1, -1)])
        given = {session.get_inputs()[0].name: normalise(filled).numpy()}
        return torch.from_numpy(session.run(None, given)[0])[: len(images)]

    return Embedder(name or path.name, side, run, batch or BATCH)


def _onnx_input(path: Path, session: Any) -> tuple[int | None, int | None]:  # noqa: ANN401 - untyped library
    """Return the batch size and the side that a file fixes, None where it leaves them open."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    # Axes that are left open are names or None.
    batch, channels, height, width = (
        [size if isinstance(size, int) else None for size in shape] if len(shape) == 4 else [None, 0, 0, 0]  # noqa: PLR2004
    )
    if channels not in {3, None} or height != width or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{given.name} {given.type} {given.shape}" for given in inputs)
        msg = f"{path} must have one input of float32 (n, 3, side, side), RGB and square; it has {found}."
        raise InvalidInput(msg)
    return batch, height


def open_extractor(source: str, *, device: torch.device) -> Embedder:
    """Open a recogniser as a judge.

    Args:
        source: A weights file that Withhold wrote; an `.onnx` file; or `module:function`, which is called without
            arguments and returns a network of pixels in [0, 1] to embeddings.

    Raises:
        InvalidInput: It is none of these, or cannot be used.
    """
    if Path(source).suffix == ".onnx":
        return of_onnx(Path(source))
    if Path(source).is_file():
        network = load(Path(source), classes=None).networks[-1].to(device)
        return of_network(network, Path(source).name)
    return of_module(_module(source), source, device=device)


def recogniser_from(source: str, classes: int, *, input_size: int, head: str = "softmax", seed: int = 0) -> Classifier:
    """Put a new head over identities on a recogniser that was trained elsewhere, to train it or craft through it.

    Args:
        source: As in `open_extractor`, without ONNX files, which give no gradients.
        classes: Identities.
        input_size: Side of the images.
        head, seed: As in `add_head`.

    Raises:
        InvalidInput: The source cannot be used, or takes no images of this size.
    """
    opened = check_source(source)
    if isinstance(opened, Classifier):
        network = opened
        if network.input_size != input_size:
            msg = (
                f"{source} takes images of {network.input_size} px; the images have {input_size} px. Resize them first."
            )
            raise InvalidInput(msg)
    else:
        module = opened.eval()
        probe = of_module(module, source, device=torch.device("cpu"))
        length = probe.embed(torch.rand(2, 3, input_size, input_size)).shape[1]
        network = wrap(Recogniser(module, length, classes), classes, input_size=input_size)
        network.architecture = source
    add_head(network, head, classes=classes, seed=seed)
    return network


def body_from(source: str, classes: int, *, input_size: int) -> Body:
    """Return what `recogniser_from` gives, in the way of networks from elsewhere."""
    network = recogniser_from(source, classes, input_size=input_size)
    return Body(network.body, network.mean, network.std, network.input_size)


def check_source(source: str) -> nn.Module:
    """Open what `recogniser_from` would take, and return it without a new head.

    Raises:
        InvalidInput: The source cannot be used; whether it takes images of some size is not tried.
    """
    if Path(source).suffix == ".onnx":
        msg = f"{source} can only score: ONNX files give no gradients. Use a weights file or module:function."
        raise InvalidInput(msg)
    return load(Path(source), classes=None).networks[-1] if Path(source).is_file() else _module(source)


def _module(source: str) -> nn.Module:
    if ":" not in source:
        msg = (
            f"there is no file {source}; a recogniser is a weights file that Withhold wrote, an .onnx file, or "
            "module:function."
        )
        raise InvalidInput(msg)
    try:
        module = function_at(source)()
    except TypeError as error:
        msg = f"{source} must be callable without arguments and return a torch.nn.Module; calling it failed: {error}."
        raise InvalidInput(msg) from error
    if not isinstance(module, nn.Module):
        msg = f"{source} must return a torch.nn.Module of pixels to embeddings; it returned {type(module).__name__}."
        raise InvalidInput(msg)
    return module
