"""Training of surrogates and victims by a recipe."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withhold.errors import InvalidInput, RunStopped
from withhold.networks.classifier import Margin, no_margin
from withhold.networks.recipe import Recipe
from withhold.seeds import derive_seed

StateDict = dict[str, Tensor]

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
        self.margin_share = partial(recipe.margin, steps=steps)
        self.step = 0
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
            loss = F.cross_entropy(self._with_margin(logits.float(), targets), targets, label_smoothing=self.smoothing)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if self.before_step is not None:
                self.before_step(self.trainable)
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            total += loss.detach() * len(labels)
            likeliest = targets if targets.ndim == 1 else targets.argmax(1)
            correct += logits.detach().argmax(1).eq(likeliest).sum()
            count += len(labels)
        return total.item() / count, correct.item() / count

    def _with_margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        share, whole = self.margin_share(self.step), self.margin(logits, labels)
        return whole if share == 1 else torch.lerp(logits, whole, share)


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
