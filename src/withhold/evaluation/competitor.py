"""The competitor's means: a network, a recipe, a device, perhaps some clean images; a countermeasure uses them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from withhold.craft import RandomResizedCrop
from withhold.networks.classifier import Classifier
from withhold.networks.recipe import Recipe
from withhold.networks.tensor_data import TensorData
from withhold.networks.training import BeforeStep, EpochResult, TrainingData, as_unit, train
from withhold.seeds import derive_seed

Deploy = Callable[[nn.Module], nn.Module]
"""Turns a trained network into what is used on new images, such as one that makes them grey first."""

OnEpoch = Callable[[nn.Module, EpochResult], None]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Images (n, 3, h, w), uint8, with their labels (n,), int64."""

    images: UInt8[Tensor, "n 3 h w"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def take(self, chosen: Tensor) -> "Labelled":
        """Pick images by number, or by a mask."""
        return Labelled(self.images[chosen], self.labels[chosen])

    def joined(self, other: "Labelled") -> "Labelled":
        """Put the images of another set behind these."""
        return Labelled(torch.cat([self.images, other.images]), torch.cat([self.labels, other.labels]))


@dataclass(frozen=True, slots=True, eq=False)
class Competitor:
    """What a competitor trains with. It holds neither the test images nor the originals of what it trains on.

    Attributes:
        network: Freshly initialised (or pretrained) classifier of pixels in [0, 1].
        recipe: How networks are trained.
        seed: Of every draw of this competitor.
        clean: Unprotected images of the same classes that the competitor happens to own; may be empty.
        on_epoch: Called with the network as it would be deployed, in evaluation mode, after each epoch.
        facts: What a countermeasure states beside the trained network, such as the epsilon of its privacy.
    """

    network: Classifier
    recipe: Recipe
    device: torch.device
    seed: int
    clean: Labelled
    on_epoch: OnEpoch
    compiled: bool = False
    facts: dict[str, float | int | str] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Count the classes."""
        return self.network.classes

    def generator(self, purpose: str) -> torch.Generator:
        """Begin a stream of draws on the CPU, the same for equal seeds and purposes."""
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose))

    def views(
        self, images: UInt8[Tensor, "n 3 h w"], labels: Int[Tensor, " n"], *, augment: bool = True
    ) -> TrainingData:
        """Present images as the recipe's data: shifted and mirrored, or cropped at random where they are larger."""
        if images.shape[-1] == self.network.input_size:
            return TensorData(images, labels, self.classes, augment=augment)
        return CroppedData(images, labels, self.classes, self.network.input_size, augment=augment)

    def train(
        self,
        data: TrainingData,
        *,
        deploy: Deploy = lambda network: network,
        before_step: BeforeStep | None = None,
        recipe: Recipe | None = None,
    ) -> nn.Module:
        """Train the network and return it as it would be deployed.

        Raises:
            Diverged: The loss is no longer finite.
        """

        def measure(result: EpochResult) -> None:
            self.on_epoch(deploy(self.network.eval()), result)

        train(
            self.network,
            data,
            recipe or self.recipe,
            seed=self.seed,
            device=self.device,
            on_epoch=measure,
            before_step=before_step,
            compiled=self.compiled,
        )
        return deploy(self.network)

    def shorter(self, share: float) -> Recipe:
        """Return the recipe with a share of its epochs, at least one, for work that repeats each of them."""
        return replace(self.recipe, epochs=max(1, round(share * self.recipe.epochs)))


class CroppedData:
    """Images larger than the network's input, held as uint8; each pass crops, resizes and mirrors at random.

    Args:
        side: Of the views.
        augment: False gives the central view that networks are tested on.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: int, side: int, *, augment: bool = True) -> None:
        self._images = images
        self._labels = labels.long()
        self._views = RandomResizedCrop(side)
        self.classes = classes
        self.augment = augment

    def __len__(self) -> int:
        """Count the images."""
        return len(self._labels)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once; see `TrainingData`."""
        order = torch.randperm(len(self), generator=generator)
        for chosen in torch.tensor_split(order, -(-len(self) // batch_size)):
            pixels = as_unit(self._images[chosen])
            views = self._views(pixels, generator) if self.augment else self._views.plain(pixels)
            yield views.clamp(0, 1), self._labels[chosen]
