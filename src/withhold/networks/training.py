"""Training of surrogates and victims: a fast recipe of our own, and the field's reference recipe."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withhold.errors import InvalidInput, RunStopped
from withhold.networks.margins import Margin, no_margin
from withhold.networks.table import RECOGNISERS
from withhold.seeds import derive_seed

StateDict = dict[str, Tensor]

FACES_SEEN = 64_000
"""Pictures that a recogniser is shown in all epochs together where the set is small."""

LARGE_SET = 20_000
"""Pictures from which a set of faces is trained on in large batches."""

BeforeStep = Callable[[Sequence[nn.Parameter]], None]
"""Called with the trained parameters when their gradients are there and the optimiser has not stepped yet."""


class Diverged(RunStopped):
    """Training ran into a loss that is not finite."""


class TrainingData(Protocol):
    """Labelled images that can be gone through many times, freshly augmented each time."""

    classes: int

    def __len__(self) -> int:
        """Count the images of one epoch."""
        ...

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, in ceil(len / batch_size) batches of nearly equal size.

        Args:
            generator: On the CPU; the only source of randomness.

        Yields:
            Images (b, 1 or 3, side, side), float in [0, 1], and labels: (b,), int64, or the share of each class,
            (b, classes).
        """
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    The defaults are the fast recipe; `reference_recipe` is the field's.

    Attributes:
        lr: Peak of the learning rate.
        schedule: `triangle` rises linearly over the share `warmup` of all steps, then falls linearly to 0; `steps`
            starts at the peak and divides by ten after 2/3 and 5/6 of the epochs.
        weight_decay: Applied to weight matrices and kernels only, or to `all` parameters.
        label_smoothing: Share of each label spread evenly over all classes.
    """

    epochs: int = 12
    batch_size: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-3
    decayed: Literal["kernels", "all"] = "kernels"
    schedule: Literal["triangle", "steps"] = "triangle"
    warmup: float = 0.25
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        positive = (self.epochs, self.batch_size, self.lr)
        fractions = (self.momentum, self.warmup, self.label_smoothing)
        if min(positive) <= 0 or self.weight_decay < 0 or not all(0 <= value < 1 for value in fractions):
            msg = (
                "a recipe needs epochs, batch_size and lr above 0, weight_decay of 0 or more, and momentum, warmup and "
                f"label_smoothing in [0, 1); got {self}."
            )
            raise InvalidInput(msg)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, in [0, steps), as a share of the peak.

        >>> recipe = Recipe(schedule="steps")
        >>> [round(recipe.rate(step, 120), 4) for step in (0, 79, 80, 100)]
        [1.0, 1.0, 0.1, 0.01]
        """
        if self.schedule == "steps":
            return float(0.1 ** sum(step >= share * steps for share in (2 / 3, 5 / 6)))
        return triangle(step, steps, self.warmup)


def triangle(step: int, steps: int, warmup: float) -> float:
    """Return the share of a peak that rises linearly over the share `warmup` of all steps, then falls linearly to 0."""
    peak = warmup * steps
    return min((step + 1) / (peak + 1), (steps - step) / (steps - peak))


def reference_recipe(epochs: int = 120) -> Recipe:
    """Return the recipe that most papers of the field train victims by."""
    return Recipe(
        epochs=epochs,
        batch_size=128,
        nesterov=False,
        weight_decay=5e-4,
        decayed="all",
        schedule="steps",
        label_smoothing=0.0,
    )


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch did: mean loss and accuracy in [0, 1], both on the augmented training images as they passed."""

    epoch: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network in eval mode, its history, and state dicts at evenly spaced epochs, the last one final."""

    network: nn.Module
    history: tuple[EpochResult, ...]
    snapshots: tuple[StateDict, ...]


def recipe_for(architecture: str, images: int, *, epochs: int | None = None, pretrained: bool = False) -> Recipe:
    """Pick the recipe of an architecture for a set of this many images.

    Small sets get more epochs, so that the network makes about as many steps; pretrained networks are only adapted.
    """
    if architecture in RECOGNISERS and not pretrained:
        return _recipe_for_faces(images, epochs)
    few, many, images_seen = (4, 30, 20_000) if pretrained else (12, 100, 120_000)
    recipe = Recipe(epochs=epochs or min(many, max(few, math.ceil(images_seen / max(1, images)))))
    if architecture == "vit":
        return replace(recipe, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    return replace(recipe, lr=0.01, weight_decay=1e-4) if pretrained else recipe


def _recipe_for_faces(images: int, epochs: int | None) -> Recipe:
    """Pick a recipe for recognisers, whatever their head.

    The rate and the weight decay are those of CosFace and ArcFace. Tens of identities with tens of pictures each need
    small batches, or there would be too few steps; large sets take about as many epochs as in the papers.
    """
    return Recipe(
        epochs=epochs or min(100, max(20, math.ceil(FACES_SEEN / max(1, images)))),
        batch_size=32 if images < LARGE_SET else 128,
        weight_decay=5e-4,
    )


def train(
    network: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[EpochResult], None] | None = None,
    before_step: BeforeStep | None = None,
    snapshots: int = 1,
    compiled: bool = False,
) -> Trained:
    """Train a network in place; equal seeds, devices and thread counts give equal weights.

    Args:
        network: Classifier of pixels in [0, 1]; it is moved to the device. The loss is the cross-entropy of its logits
            after its `margin`, if it has that attribute; the accuracy in the history is that of the logits themselves.
        on_epoch: Told of each finished epoch; it may put the network into evaluation mode.
        before_step: May change the gradients.
        snapshots: State dicts to keep, at evenly spaced epochs.
        compiled: Train through `torch.compile`.

    Raises:
        InvalidInput: More snapshots than epochs, or no images.
        Diverged: The loss is no longer finite.
    """
    if len(data) == 0 or not 1 <= snapshots <= recipe.epochs:
        msg = (
            f"training needs images and between 1 and {recipe.epochs} (the number of epochs) snapshots; "
            f"got {len(data)} images and {snapshots} snapshots."
        )
        raise InvalidInput(msg)
    keep = {math.ceil(recipe.epochs * (index + 1) / snapshots) for index in range(snapshots)}
    steps = recipe.epochs * math.ceil(len(data) / recipe.batch_size)
    trainer = _Trainer(network, recipe, device, steps=steps, before_step=before_step, compiled=compiled)
    order = torch.Generator().manual_seed(derive_seed(seed, "training data"))
    history: list[EpochResult] = []
    kept: list[StateDict] = []
    with reproducible(device, derive_seed(seed, "dropout")):
        for epoch in range(1, recipe.epochs + 1):
            loss, correct = trainer.epoch(data.epoch(recipe.batch_size, order))
            history.append(EpochResult(epoch, finite_loss(loss, epoch), correct))
            if epoch in keep:
                kept.append({name: value.detach().cpu().clone() for name, value in network.state_dict().items()})
            if on_epoch is not None:
                on_epoch(history[-1])
    return Trained(network.eval(), tuple(history), tuple(kept))


def finite_loss(loss: float, epoch: int) -> float:
    """Return the mean loss of an epoch.

    Raises:
        Diverged: It is not finite.
    """
    if not math.isfinite(loss):
        msg = f"training diverged in epoch {epoch}: the loss is {loss}. Use a lower learning rate."
        raise Diverged(msg)
    return loss


class _Trainer:
    """A network with its optimiser and learning rate schedule."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        device: torch.device,
        *,
        steps: int,
        before_step: BeforeStep | None,
        compiled: bool,
    ) -> None:
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward = torch.compile(self.network) if compiled else self.network
        self.device = device
        self.smoothing = recipe.label_smoothing
        self.margin: Margin = getattr(network, "margin", no_margin)
        self.before_step = before_step
        self.trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = optimizer_for(self.trainable, recipe)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: recipe.rate(step, steps))

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """Make one pass over the data; return the mean loss and the accuracy."""
        self.network.train()
        # Summed on the device: reading them each step would make a GPU wait.
        total, correct = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        count = 0
        for images, labels in batches:
            on_device = images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            targets = labels.to(self.device, non_blocking=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                logits = self.forward(on_device)
            loss = F.cross_entropy(self.margin(logits.float(), targets), targets, label_smoothing=self.smoothing)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if self.before_step is not None:
                self.before_step(self.trainable)
            self.optimizer.step()
            self.schedule.step()
            total += loss.detach() * len(labels)
            likeliest = targets if targets.ndim == 1 else targets.argmax(1)
            correct += logits.detach().argmax(1).eq(likeliest).sum()
            count += len(labels)
        return total.item() / count, correct.item() / count


def optimizer_for(parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Build the optimiser of a recipe, at the peak of its learning rate."""
    decayed = [p for p in parameters if p.ndim > 1 or recipe.decayed == "all"]
    others = [p for p in parameters if not (p.ndim > 1 or recipe.decayed == "all")]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, recipe.lr)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


@contextmanager
def reproducible(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators that dropout draws from, make convolutions deterministic, and put both back afterwards."""
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda), _deterministic_convolutions():
        # Not torch.manual_seed: it would seed every device, also those that are not put back.
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


def _deterministic_convolutions() -> AbstractContextManager[None]:
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True)


def accuracy(network: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 500) -> float:
    """Measure the share of images, (n, c, h, w) float in [0, 1] or uint8, that a network in eval mode gets right."""
    device = next(network.parameters()).device
    correct = 0
    with torch.inference_mode():
        for batch, targets in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
            predicted = network(as_unit(batch).to(device)).argmax(1).cpu()
            correct += int(predicted.eq(targets.cpu()).sum())
    return correct / len(labels)


def as_unit(images: Tensor) -> Tensor:
    """Turn uint8 levels into floats in [0, 1]; floats stay as they are."""
    return images if images.is_floating_point() else images.float() / torch.iinfo(images.dtype).max
