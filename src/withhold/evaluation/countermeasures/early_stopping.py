"""Early stopping: some protection is learnt late, so that the network of an early epoch is the better one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.owned_images import owned_images
from withhold.networks.training import EpochResult, StateDict, TrainingData

BATCH = 500


@dataclass(frozen=True)
class EarlyStopping(Countermeasure):
    """Keep the network of the epoch that does best on clean validation images of the competitor's own.

    Attributes:
        validation: Count of those images; they are not trained on.
    """

    validation: int = 500

    @property
    def clean_images(self) -> int:
        """Count the validation images."""
        return self.validation

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train all epochs of the recipe and go back to the best one."""
        owned = owned_images(competitor, self.validation)
        held_out = competitor.views(owned.images, owned.labels, augment=False)
        best = Best(lambda network: correct_answers(network, held_out, competitor.device))

        def on_epoch(network: nn.Module, result: EpochResult) -> None:
            best.consider(network, result.epoch)
            competitor.on_epoch(network, result)

        network = replace(competitor, on_epoch=on_epoch).train(competitor.views(images, labels))
        network.load_state_dict(best.state)
        competitor.facts.update(chosen_epoch=best.epoch, validation_accuracy=best.score / len(held_out))
        return network


class Best:
    """The best state of a network so far; of equally good ones the earliest.

    Attributes:
        epoch: When it was seen; 0 before anything was considered.
    """

    def __init__(self, measure: Callable[[nn.Module], float]) -> None:
        self._measure = measure
        self.score = -1.0
        self.epoch = 0
        self.state: StateDict = {}

    def consider(self, network: nn.Module, epoch: int) -> None:
        """Measure a network in evaluation mode and remember its state if no earlier one was as good."""
        score = self._measure(network)
        if score > self.score:
            self.score, self.epoch = score, epoch
            self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}


def correct_answers(network: nn.Module, data: TrainingData, device: torch.device) -> int:
    """Count the images that a network in evaluation mode gets right."""
    order = torch.Generator()  # no matter which: every image is counted once
    with torch.inference_mode():
        return sum(
            int(network(images.to(device)).argmax(1).eq(labels.to(device)).sum())
            for images, labels in data.epoch(BATCH, order)
        )
