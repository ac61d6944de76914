"""What a surrogate that is trained here is trained on: the owner's images, or images perturbed at every step."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from withhold import craft
from withhold.networks.training import TrainingData
from withhold.release.settings import ProtectSettings

MIN_MIN_STEPS = 10
"""Crafting steps for each training step of a min-min surrogate."""

MIN_MIN_STEP_SIZE = 1 / 4
"""Of eps: 2.5 eps / steps, so that a start anywhere in the ball can reach any corner of it."""


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """What the training of a surrogate sees.

    Attributes:
        description: Follows "trained on" in the sentence that describes the surrogate.
        images: The training data, the network to train and the settings, to the data to train it on.
    """

    description: str
    images: Callable[[TrainingData, nn.Module, ProtectSettings], TrainingData]


def min_min(data: TrainingData, network: nn.Module, settings: ProtectSettings) -> TrainingData:
    """Perturb each batch within eps to lower the loss of the network in training (Huang et al., arXiv 2101.04898)."""
    radius = float(settings.eps)
    steps = craft.constant_steps(MIN_MIN_STEP_SIZE * radius, MIN_MIN_STEPS)
    margin: craft.Margin = getattr(network, "margin", craft.no_margin)

    def objective(in_training: nn.Module) -> craft.Objective:
        return craft.ErrorMinimising(in_training, margin=margin)

    return craft.CraftedData(data, network, objective, craft.Linf(radius), steps)


CLEAN = TrainedOn("these images", lambda data, *_: data)
MIN_MIN = TrainedOn("these images, perturbed at every step to lower its loss", min_min)
