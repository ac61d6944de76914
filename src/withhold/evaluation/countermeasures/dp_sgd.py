"""Differentially private training (Abadi et al., arXiv 1607.00133) by opacus."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.networks.training import EpochResult, finite_loss, optimizer_for, reproducible
from withhold.seeds import derive_seed

DELTA = 1e-5
"""Failure probability that epsilon is stated at, as nearly all papers do."""

PHYSICAL_BATCH = 64
"""Images whose gradients are held at a time: each takes as much memory as the network."""


@dataclass(frozen=True)
class DpSgd(Countermeasure):
    """Train with differential privacy (DP-SGD): clip each image's gradient and add noise to their sum.

    Batch norms become group norms, since they mix the images of a batch. Batches are drawn by Poisson sampling: each
    image joins each with the same probability, so that `batch_size` of the recipe is their mean size. The facts state
    epsilon at delta = 1e-5, by Renyi accounting. Even weak privacy weakens poisons (Hong et al., arXiv 2002.11497), so
    the noise is chosen with regard to accuracy.

    Attributes:
        clip: Largest l2 norm of an image's gradient.
        noise: Standard deviation of the noise in each entry of the sum, as a multiple of `clip`.
    """

    clip: float = 1.0
    noise: float = 0.6

    cost: ClassVar[float] = 4.0
    packages: ClassVar[dict[str, str]] = {"opacus": "private"}

    def __post_init__(self) -> None:
        if not (0 < self.clip < math.inf and 0 < self.noise < math.inf):
            msg = f"clip and noise must be finite and above 0; got {self.clip} and {self.noise}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train for the recipe's epochs, with its optimiser and schedule."""
        with _own_warnings_only(), reproducible(competitor.device, derive_seed(competitor.seed, "dropout")):
            training = PrivateTraining(images, labels, competitor, clip=self.clip, noise=self.noise)
            for epoch in range(1, competitor.recipe.epochs + 1):
                loss, accuracy = training.epoch()
                result = EpochResult(epoch, finite_loss(loss, epoch), accuracy)
                competitor.on_epoch(training.network.eval(), result)
            competitor.facts.update(epsilon=training.epsilon(), delta=DELTA)
            return training.finish()


class PrivateTraining:
    """A network with group norms, its private optimiser and the account of the privacy spent.

    Attributes:
        network: What is trained; it is not the competitor's, whose batch norms were replaced.
    """

    def __init__(self, images: Tensor, labels: Tensor, competitor: Competitor, *, clip: float, noise: float) -> None:
        from opacus import GradSampleModule  # noqa: PLC0415 - an extra
        from opacus.accountants import RDPAccountant  # noqa: PLC0415
        from opacus.optimizers import DPOptimizer  # noqa: PLC0415
        from opacus.validators import ModuleValidator  # noqa: PLC0415

        recipe, device = competitor.recipe, competitor.device
        self._images, self._labels, self._competitor = images, labels, competitor
        self._steps = math.ceil(len(labels) / recipe.batch_size)
        self._rate = min(1.0, recipe.batch_size / len(labels))
        self._order = competitor.generator("training data")
        self.network: nn.Module = ModuleValidator.fix(competitor.network, num_groups=groups(competitor.network))
        self.network.to(device, memory_format=torch.channels_last)
        self._per_image = GradSampleModule(self.network)
        self._trainable = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = optimizer_for(self._trainable, recipe)
        total = recipe.epochs * self._steps
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate(step, total))
        self._optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=noise,
            max_grad_norm=clip,
            expected_batch_size=self._rate * len(labels),
            generator=torch.Generator(device).manual_seed(derive_seed(competitor.seed, "private noise")),
        )
        self._noise = noise
        self._accountant = RDPAccountant()

    def epoch(self) -> tuple[float, float]:
        """Make as many steps as a pass over the images takes; return mean loss and accuracy of the drawn images."""
        self._switch_to_training()
        loss, correct = torch.zeros((), device=self._competitor.device), 0
        drawn = 0
        for _ in range(self._steps):
            batches = self._draw()
            for index, (logits, targets) in enumerate(self._forward(batches)):
                losses = F.cross_entropy(
                    logits, targets, label_smoothing=self._competitor.recipe.label_smoothing, reduction="none"
                )
                losses.mean().backward()  # type: ignore[no-untyped-call]
                self._update(last=index + 1 == len(batches))
                loss += losses.detach().sum()
                correct += int(logits.argmax(1).eq(targets).sum())
                drawn += len(targets)
            if not batches:
                self._update_by_noise_alone()
            self._schedule.step()
            self._accountant.step(noise_multiplier=self._noise, sample_rate=self._rate)
        return loss.item() / max(1, drawn), correct / max(1, drawn)

    def epsilon(self) -> float:
        """Return the privacy spent so far, at `DELTA`."""
        return float(self._accountant.get_epsilon(delta=DELTA))

    def finish(self) -> nn.Module:
        """Return the network, in evaluation mode and free of what opacus attached to it."""
        network: nn.Module = self._per_image.to_standard_module()
        return network.eval()

    def _draw(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Draw a Poisson sample of the images, in parts that fit into memory; none if it is empty."""
        chosen = torch.rand(len(self._labels), generator=self._order) < self._rate
        if not chosen.any():
            return ()
        views = self._competitor.views(self._images[chosen], self._labels[chosen])
        return tuple(views.epoch(PHYSICAL_BATCH, self._order))

    def _forward(self, batches: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        device = self._competitor.device
        for images, labels in batches:
            # The fused attention kernels have no rule for gradients image by image.
            with sdpa_kernel(SDPBackend.MATH):
                logits = self._per_image(images.to(device).contiguous(memory_format=torch.channels_last))
            yield logits, labels.to(device)

    def _update(self, *, last: bool) -> None:
        """Add clipped gradients to the sum; after the last part of a batch add noise and step."""
        self._optimizer.signal_skip_step(do_skip=not last)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _update_by_noise_alone(self) -> None:
        for parameter in self._trainable:
            parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
        self._update(last=True)

    def _switch_to_training(self) -> None:
        self.network.train()
        # Of a network that trains its classification layer only, that layer too: opacus reads layers in training mode.
        for layer in self.network.modules():
            if any(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
                layer.training = True


def groups(network: nn.Module) -> int:
    """Choose how many groups the channels of each norm fall into: at most 32, and at least two channels in each.

    With one channel in each group a norm takes out the mean of every channel, which often is what tells classes apart;
    by itself opacus would choose that for narrow networks.
    """
    norms = (layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    common = math.gcd(*(norm.num_features for norm in norms))
    return math.gcd(32, max(1, common // 2))


@contextmanager
def _own_warnings_only() -> Iterator[None]:
    """Silence what opacus and PyTorch warn of in every private training, and nothing else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        warnings.filterwarnings("ignore", "Optimal order is", UserWarning)
        yield
