"""Crafting as the settings describe it: pictures of any size in, perturbations out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from withhold import craft
from withhold.craft.alignment import Direction
from withhold.craft.augment import Augmentation
from withhold.craft.steps import Rule, Start, normal_start, uniform_start, zero_start
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.release.crafting import Crafted
from withhold.release.settings import ProtectSettings
from withhold.release.trained_on import CLEAN, MIN_MIN, TrainedOn
from withhold.seeds import derive_seed

SCHEDULES: Mapping[str, Callable[[float, int], tuple[float, ...]]] = {
    "constant": craft.constant_steps,
    "linear": craft.linear_steps,
    "stepwise": craft.stepwise_steps,
}
RULES: Mapping[str, Rule] = {"pgd": craft.signed_gradient, "adam": craft.signed_adam}
STARTS: Mapping[str, Start] = {"uniform": uniform_start, "normal": normal_start, "zero": zero_start}
PENALTIES: Mapping[str, craft.Penalty] = {
    "l2": craft.SquaredL2(),
    "ssim": craft.Dissimilarity(),
    "total_variation": craft.TotalVariation(),
}
"""By the name of their weight in the settings."""

Labelled = tuple[Sequence[Picture], Sequence[int]]
Clean = tuple[Tensor, Tensor]
EVERY_CLASS = -1
"""Key of a direction that all classes share."""


MakeObjective = Callable[[nn.Module, ProtectSettings, Mapping[int, Direction], Clean], craft.Objective]
"""Network, settings, directions known beforehand and the clean batch, to an objective."""


def _of_network(make: Callable[[nn.Module], craft.Objective]) -> MakeObjective:
    return lambda network, *_: make(network)


def _alignment(
    network: nn.Module, settings: ProtectSettings, directions: Mapping[int, Direction], clean: Clean
) -> craft.Objective:
    directions = directions or {EVERY_CLASS: craft.mean_direction(network, [clean])}
    joint = settings.form == "joint"
    by_class = {label: craft.Alignment(network, direction, joint) for label, direction in directions.items()}
    return by_class.get(EVERY_CLASS) or craft.PerClass(by_class)


@dataclass(frozen=True, slots=True)
class Method:
    """What crafting minimises, and what a surrogate for it is trained on."""

    objective: MakeObjective
    trained_on: TrainedOn = CLEAN


OBJECTIVES: Mapping[str, Method] = {
    "class-targeted": Method(_of_network(craft.ClassTargeted)),
    "alignment": Method(_alignment),
    "error-maximising": Method(_of_network(craft.ErrorMaximising)),
    "error-minimising": Method(_of_network(craft.ErrorMinimising), MIN_MIN),
    "gradient-norm": Method(_of_network(craft.GradientNorm)),
}
"""By name in the settings."""


@dataclass(frozen=True, eq=False)
class GradientCrafter:
    """Crafts a batch of pictures against surrogates.

    Attributes:
        networks: Surrogates in evaluation mode, on one device; several form an ensemble.
        settings: What to minimise and how.
        crop_size: Side of the random crops that the surrogate sees; None where it sees whole pictures.
        directions: For alignment over the dataset or a class: for each network, unit directions by class label
            (`EVERY_CLASS` for all). Empty where the direction is the batch's.
    """

    networks: tuple[nn.Module, ...]
    settings: ProtectSettings
    crop_size: int | None = None
    directions: tuple[Mapping[int, Direction], ...] = ()

    def __call__(self, pictures: Sequence[Picture], labels: Sequence[int], seed: int) -> Crafted:
        """Craft perturbations for pictures with equal channel counts and any sizes."""
        batch = Batch.of(pictures, labels, self.device)
        augment = self.augmentation(batch.extents)
        objective, penalty = self._objective(batch, augment), self._penalty(batch)
        settings, radius = self.settings, float(self.settings.eps)

        def craft_once(generator: torch.Generator) -> Tensor:
            return craft.craft(
                batch.images,
                batch.labels,
                objective,
                ball=craft.Linf(radius),
                step_sizes=SCHEDULES[settings.schedule](settings.step_size * radius, settings.steps),
                generator=generator,
                rule=RULES[settings.optimizer],
                start=STARTS[settings.start],
                augment=augment,
                penalty=penalty,
                region=batch.region,
            )

        def losses(delta: Tensor) -> Tensor:
            return objective.losses(augment.plain(batch.images + delta), batch.labels)

        def penalised(delta: Tensor) -> Tensor:
            return losses(delta) + penalty.losses(batch.images, delta)

        generators = [
            torch.Generator().manual_seed(derive_seed(seed, "restart", index)) for index in range(settings.restarts)
        ]
        delta = craft.best_of(craft_once, penalised, generators)
        return self._report(batch, delta, losses(delta), augment)

    @property
    def device(self) -> torch.device:
        """Where the surrogates are."""
        return next(self.networks[0].parameters()).device

    def augmentation(self, extents: Sequence[tuple[int, int]]) -> Augmentation:
        """Return the views that the settings ask for, of pictures with these heights and widths."""
        views: Augmentation = craft.ShiftFlip(subpixel=self.settings.augment == "subpixel")
        if self.crop_size is not None:
            views = craft.RandomResizedCrop(self.crop_size, tuple(extents))
        if self.settings.augment == "none":
            views = craft.Fixed(views)
        return craft.InColour(views)

    def _objective(self, batch: "Batch", augment: Augmentation) -> craft.Objective:
        make = OBJECTIVES[self.settings.objective].objective
        clean = augment.plain(batch.images), batch.labels
        known = self.directions or ({},) * len(self.networks)
        members = [
            make(network, self.settings, each, clean) for network, each in zip(self.networks, known, strict=True)
        ]
        return members[0] if len(members) == 1 else craft.Ensemble(tuple(members))

    def _penalty(self, batch: "Batch") -> craft.Penalty:
        weights = {name: getattr(self.settings, name) for name in PENALTIES}
        chosen = craft.Penalties(tuple((weight, PENALTIES[name]) for name, weight in weights.items() if weight))
        return craft.Unpadded(chosen, batch.extents) if batch.region is not None and chosen.parts else chosen

    def _report(self, batch: "Batch", delta: Tensor, losses: Tensor, augment: Augmentation) -> Crafted:
        """Measure the crafted batch; the alignment of other objectives is that with the batch's own direction."""
        released = augment.plain(batch.images + delta)
        alignments, agreement = torch.full_like(losses, torch.nan), None
        own = self._own_alignment(batch, augment)
        if self.settings.objective == "alignment":
            alignments = 1 - losses
            agreement = own.sign_agreement(released, batch.labels) if own else None
        elif own:
            alignments = 1 - own.losses(released, batch.labels)
        return Crafted(batch.unpad(delta), losses.tolist(), alignments.tolist(), agreement)

    def _own_alignment(self, batch: "Batch", augment: Augmentation) -> craft.Alignment | None:
        """Return alignment with the batch's own clean direction under the first surrogate, if it has one.

        Where a surrogate is sure of every image, the reverse cross-entropy rounds to a slope of 0.
        """
        network = self.networks[0]
        try:
            return craft.Alignment(
                network, craft.mean_direction(network, [(augment.plain(batch.images), batch.labels)])
            )
        except InvalidInput:
            return None


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures of any sizes as one tensor, padded at the bottom and right with pixels that may not change.

    Attributes:
        images: (b, c, h, w) in [0, 1].
        labels: (b,).
        extents: Height and width that each picture really has.
        region: (b, 1, h, w), False on the padding; None where nothing is padded.
    """

    images: Tensor
    labels: Tensor
    extents: tuple[tuple[int, int], ...]
    region: Tensor | None

    @classmethod
    def of(cls, pictures: Sequence[Picture], labels: Sequence[int], device: torch.device) -> "Batch":
        """Stack pictures with equal channel counts."""
        tensors = [torch.from_numpy(picture.unit()) for picture in pictures]
        extents = tuple((tensor.shape[1], tensor.shape[2]) for tensor in tensors)
        height, width = (max(side) for side in zip(*extents, strict=True))
        padded = [F.pad(tensor, (0, width - tensor.shape[2], 0, height - tensor.shape[1])) for tensor in tensors]
        images = torch.stack(padded).to(device, memory_format=torch.channels_last)
        region = None
        if len(set(extents)) > 1:
            region = torch.zeros(len(images), 1, height, width, dtype=torch.bool)
            for inside, (rows, columns) in zip(region, extents, strict=True):
                inside[:, :rows, :columns] = True
            region = region.to(device)
        return cls(images, torch.tensor(labels, device=device), extents, region)

    def unpad(self, delta: Tensor) -> list[np.ndarray]:
        """Split a perturbation into one array (c, h, w) for each picture, at its own size."""
        arrays = delta.cpu().numpy()
        return [array[:, :rows, :columns].copy() for array, (rows, columns) in zip(arrays, self.extents, strict=True)]


def prepare_crafter(
    networks: Sequence[nn.Module],
    settings: ProtectSettings,
    labelled: Callable[[int], Iterable[Labelled]],
    *,
    present: Sequence[int],
    crop_size: int | None = None,
) -> GradientCrafter:
    """Prepare surrogates for crafting: fold batch norms and compute the directions that span the whole set.

    Args:
        networks: Surrogates in evaluation mode, on the device to craft on.
        labelled: Streams clean pictures and their labels in batches of equal channel counts: those of one label, or
            all for `EVERY_CLASS`. Called only if a direction over the set is needed.
        present: Labels that at least one picture has.
        crop_size: Side of the surrogate's view of large pictures; None where it sees whole pictures.
    """
    folded = tuple(craft.fold_batch_norm(network.to(memory_format=torch.channels_last)) for network in networks)  # type: ignore[call-overload]
    crafter = GradientCrafter(folded, settings, crop_size)
    if settings.objective != "alignment" or settings.direction == "batch":
        return crafter
    keys = [EVERY_CLASS] if settings.direction == "dataset" else present

    def inputs(key: int) -> Iterator[tuple[Tensor, Tensor]]:
        for pictures, labels in labelled(key):
            batch = Batch.of(pictures, labels, crafter.device)
            yield crafter.augmentation(batch.extents).plain(batch.images), batch.labels

    directions = ({key: craft.mean_direction(network, inputs(key)) for key in keys} for network in folded)
    return replace(crafter, directions=tuple(directions))
