"""Changes to batches and to whole sets of images, with every draw from the generator that training gives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from withhold.networks.training import TrainingData, as_unit

Change = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Images (b, 3, h, w), float in [0, 1], their labels and the only source of randomness, to the same kind of batch."""

_PIXELS_AT_ONCE = 2**20


class ChangedBatches:
    """The batches of other training data, each changed as it passes; the results are float32 in [0, 1].

    Args:
        change: Called without gradients, once per batch.
    """

    def __init__(self, data: TrainingData, change: Change) -> None:
        self._data = data
        self._change = change
        self.classes = data.classes

    def __len__(self) -> int:
        """Count the images of one epoch."""
        return len(self._data)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once; see `TrainingData`."""
        for images, labels in self._data.epoch(batch_size, generator):
            with torch.no_grad():
                changed, targets = self._change(images, labels, generator)
            yield changed.float().clamp(0, 1), targets


@contextmanager
def borrowed_randomness(generator: torch.Generator) -> Iterator[None]:
    """Let a library that draws from PyTorch's global generator draw from a stream that this generator starts.

    The global state is put back afterwards.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would seed every device, and only the CPU's state is put back.
        torch.default_generator.manual_seed(seed)
        yield


def shares(labels: Tensor, classes: int) -> Tensor:
    """Write labels (b,) as shares of each class (b, classes); shares stay as they are."""
    return F.one_hot(labels, classes).float() if labels.ndim == 1 else labels


def transformed(images: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Transform stored images once, before training: (n, 3, h, w), uint8, to the same.

    Args:
        transform: Takes and returns floats; its results are clipped to [0, 1] and rounded to whole levels, as a file's.
    """
    top = torch.iinfo(torch.uint8).max
    at_once = max(1, _PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
    with torch.no_grad():
        parts = [transform(as_unit(part)).clamp(0, 1) * top for part in torch.split(images, at_once)]
    return torch.cat([part.round().to(torch.uint8) for part in parts])
