"""Self-supervised pretraining without labels (SimCLR, Chen et al., arXiv 2002.05709), then a linear probe."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.networks.classifier import Classifier
from withhold.networks.head import classification_layer, features, train_head_only
from withhold.networks.training import as_unit, finite_loss, optimizer_for, reproducible
from withhold.seeds import derive_seed

TEMPERATURE = 0.5
"""Of the loss, as most papers of the field set it on small images."""

PROJECTED = 128
"""Length of the vectors that are compared."""

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class SimCLR(Countermeasure):
    """Learn features without the labels (SimCLR), then train only a linear layer on them with the labels.

    Two views of each image, by random crop, mirroring, colour jitter and greying, are to be told from those of the
    other images of the batch. What each epoch of the second part gives is reported, not of the first.

    Attributes:
        length: Epochs without labels, as a multiple of the recipe's; the field's 200 beside 120 are 5/3.
        batch_size: Of the part without labels, at most; larger ones compare each image with more others.
    """

    length: float = 2.0
    batch_size: int = 256

    # Two views for each image in twice as many epochs, augmentation, and forward passes for the linear layer.
    cost: ClassVar[float] = 5.0
    packages: ClassVar[dict[str, str]] = {"pytorch_metric_learning": "faces"}

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Pretrain on the images, then train the classification layer by the recipe."""
        network = competitor.network
        # Where everything else is frozen already there is nothing to learn without labels.
        if not network.head_only:
            Pretraining(images, competitor, self.batch_size).run(max(1, round(self.length * competitor.recipe.epochs)))
            train_head_only(network)
        # A linear layer has nothing to overfit by; decay would only hold it back.
        probe = replace(competitor.recipe, optimizer="sgd", lr=0.1, weight_decay=0.0)
        return competitor.train(competitor.views(images, labels), recipe=probe)


class Pretraining:
    """A network with a projection head in the place of its classification layer, which keeps its initial weights."""

    def __init__(self, images: Tensor, competitor: Competitor, batch_size: int) -> None:
        self._images = images
        self._competitor = competitor
        self._batch_size = min(batch_size, len(images))
        self._network = competitor.network.to(competitor.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._loss = nt_xent()
        self._views = views(competitor.network.input_size)

    def run(self, epochs: int) -> None:
        """Train the network's features.

        Raises:
            Diverged: The loss is no longer finite.
        """
        competitor, recipe = self._competitor, self._competitor.recipe
        # Kornia draws from the global generator, and so do the initial weights of the head.
        with reproducible(competitor.device, derive_seed(competitor.seed, "pretraining")):
            head = projection_head(self._network).to(competitor.device)
            trainable = [*feature_parameters(self._network), *head.parameters()]
            optimizer = optimizer_for(trainable, recipe)
            each = math.ceil(len(self._images) / self._batch_size)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate(step, epochs * each))
            self._network.train()
            order = competitor.generator("pretraining data")
            for epoch in range(1, epochs + 1):
                total = 0.0
                for loss in self._losses(head, order):
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
                    total += loss.item()
                competitor.facts["contrastive_loss"] = finite_loss(total / each, epoch)

    def _losses(self, head: nn.Module, order: torch.Generator) -> Iterator[Tensor]:
        """Go through the images once, in random batches."""
        device = self._competitor.device
        shuffled = torch.randperm(len(self._images), generator=order)
        for chosen in torch.tensor_split(shuffled, math.ceil(len(shuffled) / self._batch_size)):
            pixels = as_unit(self._images[chosen].to(device))
            with torch.no_grad():
                both = torch.cat([self._views(pixels), self._views(pixels)])
            both = both.clamp(0, 1).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                vectors = head(features(self._network, both))
            yield self._loss(*vectors.float().chunk(2))


def nt_xent() -> Loss:
    """Return the normalised, temperature-scaled cross-entropy: of vectors (b, p) of first views and of second ones.

    The supervised contrastive loss, with two views of one image as a class, is the same and works on the (2b, 2b)
    matrix of similarities; the library's own NT-Xent compares all pairs with all pairs.
    """
    from pytorch_metric_learning.losses import SelfSupervisedLoss, SupConLoss  # noqa: PLC0415 - an extra

    loss: Loss = SelfSupervisedLoss(SupConLoss(temperature=TEMPERATURE))
    return loss


def views(side: int) -> Callable[[Tensor], Tensor]:
    """Return what draws one view (b, 3, side, side) of each image (b, 3, h, w), in [0, 1], on its device.

    SimCLR's for small images: no blur, and crops of a fifth of the area and more. It draws from PyTorch's global
    generator.
    """
    import kornia.augmentation as kornia  # noqa: PLC0415 - takes seconds to import

    # Resampling cuts all crops in one call; slicing would go through the images one by one.
    crop = kornia.RandomResizedCrop((side, side), scale=(0.2, 1.0), cropping_mode="resample")
    jitter = kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)
    return nn.Sequential(crop, kornia.RandomHorizontalFlip(), jitter, kornia.RandomGrayscale(p=0.2))


def projection_head(network: Classifier) -> nn.Module:
    """Build the two layers between a network's features and the vectors that are compared."""
    _, layer = classification_layer(network)
    width = layer.in_features
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTED))


def feature_parameters(network: Classifier) -> list[nn.Parameter]:
    """List the trainable parameters that are not of the classification layer."""
    _, layer = classification_layer(network)
    apart = {id(parameter) for parameter in layer.parameters()}
    return [p for p in network.parameters() if p.requires_grad and id(p) not in apart]
