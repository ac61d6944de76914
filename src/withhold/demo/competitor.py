"""The competitor: whoever takes the images that were published and trains a model of their own on them."""

import torch
from torch import Tensor

from withhold.networks.table import build
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import Recipe, accuracy, train
from withhold.release.progress import Reporter
from withhold.seeds import derive_seed

ARCHITECTURE = "resnet9"


class Competitor:
    """Trains a network from scratch, always from the same initial weights, and tests it on clean images.

    Args:
        images: Clean test images, (n, c, h, w), uint8.
        labels: (n,), int64.
        epochs: Training epochs.
        seed: Of initial weights and training; another than the surrogate's.
    """

    def __init__(self, images: Tensor, labels: Tensor, epochs: int, seed: int, reporter: Reporter) -> None:
        self._images, self._labels = images, labels
        self._epochs, self._seed = epochs, seed
        self._reporter = reporter

    @property
    def test_images(self) -> int:
        """Count the clean test images."""
        return len(self._labels)

    def accuracy_from(self, images: Tensor, labels: Tensor) -> float:
        """Train on images (n, c, h, w), uint8, and measure the accuracy in [0, 1] on the clean test images."""
        classes = int(self._labels.max()) + 1
        network = build(ARCHITECTURE, classes, input_size=images.shape[-1], seed=self._seed)
        self._reporter.start("Training the competitor", self._epochs, "epochs")
        trained = train(
            network,
            TensorData(images, labels, classes),
            Recipe(epochs=self._epochs),
            seed=self._seed,
            device=torch.device("cpu"),
            on_epoch=lambda _: self._reporter.advance(),
        )
        self._reporter.finish()
        return accuracy(trained.network, self._images, self._labels)


def with_noise(images: Tensor, bound: int, seed: int) -> Tensor:
    """Change every channel of every pixel of uint8 images by `bound` levels up or down, at random."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "noise"))
    signs = torch.randint(0, 2, images.shape, generator=generator, dtype=torch.int16) * 2 - 1
    top = torch.iinfo(torch.uint8).max
    return (images.to(torch.int16) + bound * signs).clamp(0, top).to(torch.uint8)
