"""The network that perturbations are crafted against: trained on the owner's images, loaded, or given; then checked."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from withhold.data.atomic import write_atomic
from withhold.errors import InvalidInput
from withhold.networks.checkpoint import encode, load
from withhold.networks.choose import Choice, Sizes, Views, choose, choose_for_faces, resolve_devices
from withhold.networks.classifier import Classifier, wrap
from withhold.networks.recipe import recipe_for
from withhold.networks.table import build, of_library
from withhold.networks.training import EpochResult, accuracy, train
from withhold.progress import Reporter
from withhold.release.crafter import OBJECTIVES
from withhold.release.settings import ProtectSettings
from withhold.release.space import check_room
from withhold.release.trained_on import CLEAN
from withhold.release.training_images import Originals
from withhold.seeds import derive_seed

MEASURED = 1000
"""Images that a surrogate's accuracy is measured on."""


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """Frozen networks in eval mode on the crafting device.

    Attributes:
        networks: Snapshots of one training, the final one last; usually one.
        input_size: Side of the square that the networks see.
        views: `native` if that is the whole image or aligned face, `crop` if it is a random resized crop of it.
        description: One sentence for the user.
        accuracy: Share of up to 1,000 of the owner's images that the final network gets right.
    """

    networks: tuple[Classifier, ...]
    input_size: int
    views: Views
    description: str
    accuracy: float


def resolve(
    originals: Originals,
    settings: ProtectSettings,
    *,
    weights: Path,
    reporter: Reporter,
    network: nn.Module | None = None,
    reserved: int = 0,
    check: Callable[[nn.Module], None] = lambda _: None,
) -> Surrogate:
    """Get the surrogate that the settings ask for, and say what was chosen and why.

    Args:
        originals: The images to protect, or the faces in them; all of them are readable.
        weights: Where the surrogate is kept for a resumed run. If the file is there, it is the surrogate.
        network: Classifier of pixels in [0, 1], or of normalised ones if the settings hold mean and std. It is copied.
        reserved: Bytes on the disk of `weights` that are not free for them.
        check: Refuses a network that was built, before it is trained.

    Raises:
        InvalidInput: The network or weights do not exist, do not fit, or do not give finite logits of every class.
        RunStopped: Training diverged, an image cannot be read, or the disk has no room for the weights.
    """
    source = _Source(originals, settings, reporter)
    if network is not None:
        return source.given(network)
    if weights.exists():
        return source.kept(weights)
    if settings.surrogate is None or of_library(settings.surrogate):
        built = source.built()
        check(built)
        size = sum(value.nbytes for value in built.state_dict().values())
        check_room(weights, reserved + size * settings.snapshots)
        surrogate = source.fitted(built)
    else:
        surrogate = source.loaded(Path(settings.surrogate).expanduser())
    details: dict[str, str | int | float] = {"description": surrogate.description, "seed": settings.seed}
    write_atomic(weights, encode(surrogate.networks, accuracy=surrogate.accuracy, details=details))
    return surrogate


def choice_of(settings: ProtectSettings, sizes: Sizes, device: torch.device) -> Choice:
    """Choose the network for images, or aligned faces, of these sizes where the settings name none."""
    return choose_for_faces(sizes, device) if settings.task == "faces" else choose(sizes, device)


def untrained(settings: ProtectSettings, classes: int, choice: Choice) -> Classifier:
    """Build the network that the settings name, or else the chosen one."""
    return build(
        named_network(settings) or choice.architecture,
        classes,
        input_size=settings.input_size,
        default_size=choice.input_size,
        mean=settings.mean,
        std=settings.std,
        head=settings.head or "softmax",
        seed=settings.seed,
    )


def named_network(settings: ProtectSettings) -> str | None:
    """Name the network that the settings ask for, if they do."""
    if settings.surrogate is not None and of_library(settings.surrogate):
        return settings.surrogate
    return None if settings.architecture == "auto" else settings.architecture


class _Source:
    """The ways to a surrogate for one dataset."""

    def __init__(self, originals: Originals, settings: ProtectSettings, reporter: Reporter) -> None:
        self.originals = originals
        self.settings = settings
        self.reporter = reporter
        self.trained_on = OBJECTIVES[settings.objective].trained_on
        self.classes = originals.classes
        self.device = resolve_devices(settings.device)[0]
        self.choice: Choice = choice_of(settings, originals.sizes, self.device)

    def given(self, network: nn.Module) -> Surrogate:
        """Take a network object."""
        settings = self.settings
        side = settings.input_size or getattr(network, "input_size", None)
        wrapped = (
            copy.deepcopy(network)
            if isinstance(network, Classifier)
            else wrap(
                copy.deepcopy(network),
                self.classes,
                input_size=side if isinstance(side, int) else self.choice.input_size,
                mean=settings.mean,
                std=settings.std,
            )
        )
        return self._checked([wrapped], f"the given {wrapped.architecture}", foreign=True)

    def kept(self, weights: Path) -> Surrogate:
        """Load what an earlier start of this run kept."""
        loaded = load(weights, classes=self.classes, architecture=named_network(self.settings))
        known = loaded.metadata.accuracy if loaded.metadata else None
        what = f"{loaded.networks[-1].architecture}, kept by the earlier start of this run"
        return self._checked(loaded.networks, what, measured=known)

    def loaded(self, file: Path) -> Surrogate:
        """Load the weights file that the settings name."""
        settings = self.settings
        loaded = load(
            file,
            classes=self.classes,
            architecture=named_network(settings),
            input_size=settings.input_size,
            default_size=self.choice.input_size,
            mean=settings.mean,
            std=settings.std,
            head=settings.head,
        )
        final = loaded.networks[-1]
        if loaded.metadata is None and settings.mean is None:
            numbers = f"mean {_numbers(final.mean)} and std {_numbers(final.std)}"
            self.reporter.say(f"{file.name} does not say how its images were normalised; {numbers} are assumed.")
        return self._checked(loaded.networks, f"{final.architecture} with the weights of {file.name}", foreign=True)

    def built(self) -> Classifier:
        """Build the network that the settings name, or else the chosen one, and say why it was chosen."""
        if named_network(self.settings) is None and self.settings.input_size is None:
            self.reporter.say(self.choice.reason)
        return untrained(self.settings, self.classes, self.choice)

    def fitted(self, network: Classifier) -> Surrogate:
        """Train a built network, unless it came with weights for these classes."""
        if network.ready:
            return self._checked([network], f"{network.architecture} as it was published", foreign=True)
        return self._trained(network)

    def _trained(self, network: Classifier) -> Surrogate:
        settings, name = self.settings, network.architecture
        pretrained = of_library(name)
        recipe = recipe_for(name, len(self.originals), epochs=settings.epochs, pretrained=pretrained)
        views = self.originals.views(network.input_size, settings.augment)
        self._probe(network)
        work = "Adapting" if pretrained else "Training"
        self.reporter.say(
            f"{work} the surrogate {name} at {network.input_size} px on {len(self.originals):,} {self.originals.kind} "
            f"of {self.classes} classes for {recipe.epochs} epochs on {self.device.type}."
        )
        clean = self.originals.training(network.input_size, views)
        data = self.trained_on.images(clean, network, settings)
        self.reporter.start("Training the surrogate", recipe.epochs, "epochs")

        def advance(_: EpochResult) -> None:
            self.reporter.advance()

        seed = derive_seed(settings.seed, "surrogate")
        result = train(
            network, data, recipe, seed=seed, device=self.device, on_epoch=advance, snapshots=settings.snapshots
        )
        self.reporter.finish()
        networks = [copy.deepcopy(network) for _ in result.snapshots]
        for each, state in zip(networks, result.snapshots, strict=True):
            each.load_state_dict(state)
        return self._checked(networks, f"{name}, trained for {recipe.epochs} epochs on {self.trained_on.description}")

    def _checked(
        self, networks: Sequence[Classifier], what: str, *, measured: float | None = None, foreign: bool = False
    ) -> Surrogate:
        """Freeze the networks, try them, measure the final one and say what it is."""
        final = networks[-1]
        for network in networks:
            self._probe(network.requires_grad_(requires_grad=False))
        views = self.originals.views(final.input_size, self.settings.augment)
        if measured is None:
            images, labels = self.originals.sample(final.input_size, views, MEASURED)
            measured = accuracy(final, images, labels)
        count = min(MEASURED, len(self.originals))
        description = (
            f"The surrogate is {what}; it gets {measured:.0%} of {count:,} of the {self.originals.kind} right."
        )
        self.reporter.say(description)
        # What a network learned from perturbed images need not show on clean ones.
        if near_chance(measured, self.classes) and (foreign or self.trained_on is CLEAN):
            self.reporter.say(_warning(self.classes, foreign=foreign))
        if foreign and self.trained_on is not CLEAN:
            self.reporter.say(
                f"For {self.settings.objective} a surrogate is trained on {self.trained_on.description}; this one was "
                "not trained here and is used as it is."
            )
        if foreign and self.settings.snapshots > 1:
            self.reporter.say("Snapshots are taken of a surrogate's training only; this one was not trained here.")
        return Surrogate(tuple(networks), final.input_size, views, description, measured)

    def _probe(self, network: Classifier) -> None:
        """Move a network to the device and see that it turns images into finite logits."""
        network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        side = network.input_size
        expected = (
            f"{network.architecture} must turn images (2, 3, {side}, {side}) into finite logits (2, {self.classes})"
        )
        try:
            with torch.inference_mode():
                logits = network(torch.full((2, 3, side, side), 0.5, device=self.device))
        except (RuntimeError, ValueError, TypeError) as error:
            msg = f"{expected}; it failed with: {str(error).splitlines()[0]}. Is --input-size right?"
            raise InvalidInput(msg) from error
        if not isinstance(logits, torch.Tensor) or logits.shape != (2, self.classes):
            got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            msg = f"{expected}; it returned {got}. Use a network of the dataset's {self.classes} classes."
            raise InvalidInput(msg)
        if not bool(logits.isfinite().all()):
            msg = f"{expected}; some are not finite. Use other weights."
            raise InvalidInput(msg)


def near_chance(measured: float, classes: int) -> bool:
    """Tell whether an accuracy is hardly better than guessing among equally frequent classes.

    >>> near_chance(0.15, 10), near_chance(0.25, 10), near_chance(0.52, 2)
    (True, False, True)
    """
    chance = 1 / classes
    return measured < chance + 0.1 * (1 - chance)


def _warning(classes: int, *, foreign: bool) -> str:
    causes = (
        "Likely causes: its classes are in another order than the dataset's, or it was trained with another --mean and "
        "--std, or another --input-size."
        if foreign
        else "Likely causes: too few --epochs, too few images per class, or labels that the images do not show."
    )
    return (
        f"Warning: that is close to guessing among {classes} classes, and what it crafts will protect little. {causes}"
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
