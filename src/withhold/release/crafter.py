"""Crafting as the settings describe it: pictures of any size in, perturbations out."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from withhold import craft
from withhold.craft.alignment import Direction
from withhold.craft.augment import Augmentation
from withhold.craft.steps import Rule, Start, normal_start, uniform_start, zero_start
from withhold.data.faces import TEMPLATE_SIDE
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput
from withhold.release.batch import Batch
from withhold.release.crafting import Crafted, Shown
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

DIRECTION_BYTES = 2 << 30
"""Most memory for directions: a direction is as large as the surrogate, and `class` needs one for every class."""

Labelled = tuple[Sequence[Picture], Sequence[Shown]]
Clean = tuple[Tensor, Tensor]
EVERY_CLASS = -1
"""Key of a direction that all classes share."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A surrogate as crafting reads it.

    Attributes:
        network: In evaluation mode.
        margin: Of the loss that it was trained by.
        directions: For alignment over the dataset or a class: unit directions by class label (`EVERY_CLASS` for all).
            Empty where the direction is the batch's.
    """

    network: nn.Module
    margin: craft.Margin = craft.no_margin
    directions: Mapping[int, Direction] = field(default_factory=dict)

    def on(self, device: str) -> "Reference":
        """Return a copy on another device."""
        directions = {label: tuple(part.to(device) for part in each) for label, each in self.directions.items()}
        return replace(self, network=copy.deepcopy(self.network).to(device), directions=directions)

    def direction(self, batches: Iterable[Clean]) -> Direction:
        """Return the direction of clean images: the unit gradient of their reverse training loss."""
        return craft.mean_direction(self.network, batches, craft.with_margin(craft.reverse_cross_entropy, self.margin))


MakeObjective = Callable[[Reference, ProtectSettings, Clean], craft.Objective]
"""Surrogate, settings and the clean batch, to an objective."""


def _of_network(make: Callable[..., craft.Objective]) -> MakeObjective:
    return lambda surrogate, *_: make(surrogate.network, margin=surrogate.margin)


def _alignment(surrogate: Reference, settings: ProtectSettings, clean: Clean) -> craft.Objective:
    directions = surrogate.directions or {EVERY_CLASS: surrogate.direction([clean])}
    joint = settings.form == "joint"
    by_class = {
        label: craft.Alignment(surrogate.network, direction, joint, margin=surrogate.margin)
        for label, direction in directions.items()
    }
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
        surrogates: On one device; several form an ensemble.
        settings: What to minimise and how.
        crop_size: Side of the random crops that the surrogates see; None where they see whole pictures or faces.
        face_size: Side of the aligned faces that they see of pictures in which faces are known.
    """

    surrogates: tuple[Reference, ...]
    settings: ProtectSettings
    crop_size: int | None = None
    face_size: int = TEMPLATE_SIDE

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        """Craft perturbations for pictures with equal channel counts and any sizes, each with something to see."""
        batch = Batch.of(pictures, shown, self.device)
        augment = self.augmentation(batch)
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
            return batch.per_image(objective.losses(augment.plain(batch.images + delta), batch.labels))

        def penalised(delta: Tensor) -> Tensor:
            return losses(delta) + penalty.losses(batch.images, delta)

        generators = [
            torch.Generator().manual_seed(derive_seed(seed, "restart", index)) for index in range(settings.restarts)
        ]
        delta = craft.best_of(craft_once, penalised, generators)
        return self._report(batch, delta, losses(delta), augment)

    def on(self, device: str) -> "GradientCrafter":
        """Return a copy on another device."""
        return replace(self, surrogates=tuple(surrogate.on(device) for surrogate in self.surrogates))

    @property
    def device(self) -> torch.device:
        """Where the surrogates are."""
        return next(self.surrogates[0].network.parameters()).device

    def augmentation(self, batch: Batch) -> Augmentation:
        """Return the views of a batch that the settings ask for."""
        views = views_of(self.settings, self.crop_size, batch.extents if batch.faces is None else None)
        if batch.faces is not None:
            views = craft.AlignedFaces(batch.faces, self.face_size, views)
        return craft.InColour(views)

    def _objective(self, batch: Batch, augment: Augmentation) -> craft.Objective:
        make = OBJECTIVES[self.settings.objective].objective
        clean = augment.plain(batch.images), batch.labels
        members = [make(surrogate, self.settings, clean) for surrogate in self.surrogates]
        return members[0] if len(members) == 1 else craft.Ensemble(tuple(members))

    def _penalty(self, batch: Batch) -> craft.Penalty:
        weights = {name: getattr(self.settings, name) for name in PENALTIES}
        chosen = craft.Penalties(tuple((weight, PENALTIES[name]) for name, weight in weights.items() if weight))
        return craft.Unpadded(chosen, batch.extents) if batch.region is not None and chosen.parts else chosen

    def _report(self, batch: Batch, delta: Tensor, losses: Tensor, augment: Augmentation) -> Crafted:
        """Measure the crafted batch; the alignment of other objectives is that with the batch's own direction."""
        released = augment.plain(batch.images + delta)
        alignments, agreement = torch.full_like(losses, torch.nan), None
        own = self._own_alignment(batch, augment)
        if self.settings.objective == "alignment":
            alignments = 1 - losses
            agreement = own.sign_agreement(released, batch.labels) if own else None
        elif own:
            alignments = 1 - batch.per_image(own.losses(released, batch.labels))
        return Crafted(batch.unpad(delta), losses.tolist(), alignments.tolist(), agreement)

    def _own_alignment(self, batch: Batch, augment: Augmentation) -> craft.Alignment | None:
        """Return alignment with the batch's own clean direction under the first surrogate, if it has one.

        Where a surrogate is sure of every image, the reverse cross-entropy rounds to a slope of 0.
        """
        surrogate = self.surrogates[0]
        try:
            direction = surrogate.direction([(augment.plain(batch.images), batch.labels)])
        except InvalidInput:
            return None
        return craft.Alignment(surrogate.network, direction, margin=surrogate.margin)


def prepare_crafter(
    networks: Sequence[nn.Module],
    settings: ProtectSettings,
    labelled: Callable[[int], Iterable[Labelled]],
    *,
    present: Sequence[int],
    crop_size: int | None = None,
    face_size: int = TEMPLATE_SIDE,
) -> GradientCrafter:
    """Prepare surrogates for crafting: fold batch norms and compute the directions that span the whole set.

    Args:
        networks: Surrogates in evaluation mode, on the device to craft on; an attribute `margin` says what their
            training did to logits.
        labelled: Streams clean pictures and what they show in batches of equal channel counts: those of one label, or
            all for `EVERY_CLASS`. Called only if a direction over the set is needed.
        present: Labels that at least one picture or face has.
        crop_size: Side of the surrogate's view of large pictures; None where it sees whole pictures or faces.
        face_size: Side of the aligned faces that it sees of pictures in which faces are known.

    Raises:
        InvalidInput: A direction for each class would not fit into `DIRECTION_BYTES`.
    """
    for network in networks:
        check_directions(settings, network, len(present), len(networks))
    surrogates = tuple(Reference(_folded(network), margin_of(network)) for network in networks)
    crafter = GradientCrafter(surrogates, settings, crop_size, face_size)
    if settings.objective != "alignment" or settings.direction == "batch":
        return crafter
    keys = [EVERY_CLASS] if settings.direction == "dataset" else present

    def inputs(key: int) -> Iterator[Clean]:
        for pictures, shown in labelled(key):
            batch = Batch.of(pictures, shown, crafter.device)
            yield crafter.augmentation(batch).plain(batch.images), batch.labels

    known = (replace(each, directions={key: each.direction(inputs(key)) for key in keys}) for each in surrogates)
    return replace(crafter, surrogates=tuple(known))


def views_of(
    settings: ProtectSettings, crop_size: int | None, extents: tuple[tuple[int, int], ...] | None = None
) -> Augmentation:
    """Return the views of images that settings ask for.

    Args:
        crop_size: Side of the random crops that the surrogate sees; None where it sees whole images.
        extents: Height and width that each image of a padded batch really has; the whole tensor if absent.
    """
    views: Augmentation = craft.ShiftFlip(subpixel=settings.augment == "subpixel")
    if crop_size is not None:
        views = craft.RandomResizedCrop(crop_size, extents)
    return craft.Fixed(views) if settings.augment == "none" else views


def margin_of(network: nn.Module) -> craft.Margin:
    """Return what a network's training does to its logits."""
    margin: craft.Margin = getattr(network, "margin", craft.no_margin)
    return margin


def check_directions(settings: ProtectSettings, network: nn.Module, classes: int, networks: int) -> None:
    """Refuse to keep a direction for each of many classes; may be called before the network is trained.

    Args:
        classes: Number that at least one picture or face has.
        networks: Surrogates in the ensemble, of this one's size.

    Raises:
        InvalidInput: Together they would take more than `DIRECTION_BYTES`.
    """
    if (settings.objective, settings.direction) != ("alignment", "class"):
        return
    size = sum(parameter.nbytes for parameter in network.parameters()) * classes * networks
    if size > DIRECTION_BYTES:
        msg = (
            f"a direction for each of {classes:,} classes would take {size / 2**30:,.1f} GiB, and at most "
            f"{DIRECTION_BYTES / 2**30:g} GiB are used for directions; choose --direction dataset or batch."
        )
        raise InvalidInput(msg)


def _folded(network: nn.Module) -> nn.Module:
    return craft.fold_batch_norm(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
