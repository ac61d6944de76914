"""UEraser (Qin et al., arXiv 2303.15127): augmentation so strong that perturbations of the usual size drown in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from kornia.augmentation import RandomChannelShuffle, RandomPlasmaBrightness, RandomPlasmaContrast
from torch import Tensor, nn

from withhold.craft.training_batches import evaluating
from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import ChangedBatches, borrowed_randomness
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.jpeg import reencoded
from withhold.evaluation.countermeasures.trivialaugment import changed_one_by_one, trivial_policies

_ROUGHNESS = (0.3, 0.7)
_INTENSITY = (0.5, 1.0)
_WORST_JPEG = 10
_BEST_JPEG = 100


class Views:
    """Random views of a batch: cloudy brightness and contrast, swapped channels, then TrivialAugment.

    Args:
        plasma: Share of the images whose brightness is changed, and of those whose contrast is.
        jpeg: Compress each view as JPEG of a quality drawn from 10 to 100.
    """

    def __init__(self, plasma: float, *, jpeg: bool = False) -> None:
        self._clouds = nn.Sequential(
            RandomPlasmaBrightness(roughness=_ROUGHNESS, intensity=_INTENSITY, p=plasma),
            RandomPlasmaContrast(roughness=_ROUGHNESS, p=plasma),
            RandomChannelShuffle(p=0.5),
        )
        self._policies = trivial_policies()
        self._jpeg = jpeg

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one view of each image (b, 3, h, w) in [0, 1]."""
        with borrowed_randomness(generator):
            clouded: Tensor = self._clouds(images)
        views = changed_one_by_one(clouded.clamp(0, 1), self._policies, generator)
        return _compressed(views, generator) if self._jpeg else views


@dataclass(frozen=True)
class UEraserLite(Countermeasure):
    """Change brightness and contrast in clouds, swap channels, then apply TrivialAugment (UEraser-Lite).

    Attributes:
        plasma: Share of the images whose brightness is changed, and of those whose contrast is; 0.5 in their code.
    """

    plasma: float = 0.5

    cost: ClassVar[float] = 1.3

    def __post_init__(self) -> None:
        _refuse_plasma(self.plasma)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on one view of each image at each step."""
        draw = Views(self.plasma)
        data = competitor.views(images, labels)
        changed = ChangedBatches(data, lambda pixels, targets, generator: (draw(pixels, generator), targets))
        return competitor.train(changed)


@dataclass(frozen=True)
class UEraserMax(Countermeasure):
    """Draw several views as UEraser-Lite does and train on the one with the highest loss (UEraser-Max).

    Attributes:
        views: Drawn of each image at each step, in all epochs.
        jpeg: Compress each view as JPEG of a quality drawn from 10 to 100, the authors' answer to perturbations that
            survive the rest.
        plasma: As in `UEraserLite`.
    """

    views: int = 5
    jpeg: bool = False
    plasma: float = 0.5

    cost: ClassVar[float] = 4.0

    def __post_init__(self) -> None:
        _refuse_plasma(self.plasma)
        if self.views < 2:  # noqa: PLR2004 - the worst of one is UEraser-Lite
            msg = f"UEraser-Max needs at least 2 views to choose from; got {self.views}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on the worst view of each image at each step."""
        draw = Views(self.plasma, jpeg=self.jpeg)

        def change(pixels: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            candidates = [draw(pixels, generator) for _ in range(self.views)]
            return worst(candidates, targets, competitor.network), targets

        return competitor.train(ChangedBatches(competitor.views(images, labels), change))


def worst(candidates: Sequence[Tensor], targets: Tensor, network: nn.Module) -> Tensor:
    """Pick of each image the view with the highest loss, under the network as it would be used now.

    Args:
        candidates: Views of one batch, each (b, 3, h, w) in [0, 1].
        targets: Labels (b,) or shares (b, classes).
    """
    device = next(network.parameters()).device
    on_device = targets.to(device)
    half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    with evaluating(network), torch.no_grad(), half:
        logits = [network(views.to(device)).float() for views in candidates]
    losses = torch.stack([F.cross_entropy(each, on_device, reduction="none") for each in logits])
    return torch.stack(list(candidates))[losses.argmax(0).cpu(), torch.arange(len(targets))]


def _compressed(views: Tensor, generator: torch.Generator) -> Tensor:
    """Compress each view as JPEG of a quality of its own."""
    top = torch.iinfo(torch.uint8).max
    levels = (views * top).round().to(torch.uint8)
    qualities = torch.randint(_WORST_JPEG, _BEST_JPEG + 1, (len(views),), generator=generator).tolist()
    decoded = [
        reencoded(image[None], "JPEG", quality=quality) for image, quality in zip(levels, qualities, strict=True)
    ]
    return torch.cat(decoded).float() / top


def _refuse_plasma(share: float) -> None:
    if not 0 <= share <= 1:
        msg = f"UEraser needs a plasma share in [0, 1]; got {share}."
        raise InvalidInput(msg)
