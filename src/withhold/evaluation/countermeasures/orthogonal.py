"""Orthogonal projection (Sandoval-Segura et al., "What Can We Learn from Unlearnable Datasets?", arXiv 2305.19254)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from withhold.craft import RandomResizedCrop
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.networks.tensor_data import shift_and_mirror
from withhold.networks.training import as_unit


@dataclass(frozen=True)
class OrthogonalProjection(Countermeasure):
    """Take out of the training images what a linear model recognises their classes by.

    The linear model has no bias and is trained as in the paper: 20 epochs of SGD at 0.1, batches of 1024, a tenth of
    the rate after half and three quarters; with fewer images than CIFAR-10 more epochs, so that it makes as many steps.
    Then the recipe trains on the images without their components along its weight vectors, one per class. New images
    are used as they are.
    """

    epochs: ClassVar[int] = 20
    steps: ClassVar[int] = 980
    rate: ClassVar[float] = 0.1
    batch_size: ClassVar[int] = 1024
    cost: ClassVar[float] = 1.2

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train the linear model, then the network on what is orthogonal to it."""
        weights = self.linear_model(images, labels, competitor)
        data = ProjectedData(images, labels, competitor.classes, basis(weights), competitor.network.input_size)
        return competitor.train(data)

    def linear_model(
        self, images: UInt8[Tensor, "n c h w"], labels: Int[Tensor, " n"], competitor: Competitor
    ) -> Float[Tensor, "k d"]:
        """Train the bias-free linear model; return a weight vector for each class, on the CPU; d = c * h * w."""
        generator, device = competitor.generator("linear model"), competitor.device
        reach = 1 / math.sqrt(images[0].numel())  # the initial weights of PyTorch's linear layer
        weights = (torch.rand(competitor.classes, images[0].numel(), generator=generator) * 2 - 1) * reach
        weights = weights.to(device).requires_grad_()
        optimizer = torch.optim.SGD([weights], self.rate)
        epochs = max(self.epochs, math.ceil(self.steps / math.ceil(len(labels) / self.batch_size)))
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2, epochs * 3 // 4])
        for _ in range(epochs):
            for chosen in torch.split(torch.randperm(len(labels), generator=generator), self.batch_size):
                logits = as_unit(images[chosen].to(device)).flatten(1) @ weights.T
                optimizer.zero_grad()
                F.cross_entropy(logits, labels[chosen].to(device)).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            schedule.step()
        return weights.detach().cpu()


def basis(vectors: Float[Tensor, "k d"]) -> Float[Tensor, "d k"]:
    """Return orthonormal columns that span the vectors, by QR in double precision."""
    columns: Tensor = torch.linalg.qr(vectors.T.double()).Q
    return columns.float()


def projected(images: Float[Tensor, "b c h w"], directions: Float[Tensor, "d k"]) -> Float[Tensor, "b c h w"]:
    """Remove the components of images along orthonormal directions; pixels may leave [0, 1]."""
    flat = images.flatten(1)
    return (flat - (flat @ directions) @ directions.T).view_as(images)


class ProjectedData:
    """Projected images, which are computed batch by batch: as floats they would take four times the memory.

    They are shifted and mirrored like those of `TensorData`, or cropped like those of `CroppedData` where they are
    larger than the network's input, after projection. They are not clipped to [0, 1], which would bring some of the
    removed components back.

    Args:
        directions: Orthonormal, (d, k).
        side: Of the network's input.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: int, directions: Tensor, side: int) -> None:
        self._images = images
        self._labels = labels.long()
        self._directions = directions
        self._crop = None if images.shape[-1] == side else RandomResizedCrop(side)
        self.classes = classes

    def __len__(self) -> int:
        """Count the images."""
        return len(self._labels)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once; see `TrainingData`, apart from the range of the pixels."""
        order = torch.randperm(len(self), generator=generator)
        for chosen in torch.tensor_split(order, math.ceil(len(self) / batch_size)):
            pixels = projected(as_unit(self._images[chosen]), self._directions)
            yield self._view(pixels, generator), self._labels[chosen]

    def _view(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        if self._crop is not None:
            return self._crop(pixels, generator)
        everything = torch.arange(len(pixels))
        return shift_and_mirror(pixels.permute(0, 2, 3, 1), everything, generator).permute(0, 3, 1, 2)
