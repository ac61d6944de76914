"""Adversarial training (Madry et al., arXiv 1706.06083), the field's strongest answer to bounded protection."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from withhold.craft import ErrorMaximising, Linf, constant_steps
from withhold.craft.training_batches import CraftedData
from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.networks.training import TrainingData

CHECKED = 500
"""Training images that the trained network is attacked on, at most, for the robust loss in the facts."""


@dataclass(frozen=True)
class AdversarialTraining(Countermeasure):
    """Train on batches attacked against the network as it stands: PGD-10, steps of eps / 4, random start.

    At eps = 8/255 the step is 2/255, the setting of Huang et al. (arXiv 2101.04898). The facts state the loss and the
    accuracy of the trained network on attacked training images.

    Attributes:
        eps: Radius of the attack's l-inf ball, as a fraction of the pixel range.
    """

    eps: Fraction

    steps: ClassVar[int] = 10
    cost: ClassVar[float] = 11.0

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            msg = f"eps is a fraction of the pixel range, above 0 and at most 1, such as 8/255; got {self.eps}."
            raise InvalidInput(msg)

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on attacked batches, then attack once more what came out."""
        network = competitor.train(self.attacked(competitor.views(images, labels), competitor.network))
        generator = competitor.generator("attack on the trained network")
        chosen = torch.randperm(len(labels), generator=generator)[:CHECKED]
        views = competitor.views(images[chosen], labels[chosen], augment=False)
        loss, accuracy = self.robustness(network, views, generator)
        competitor.facts.update(robust_loss=loss, robust_accuracy=accuracy)
        return network

    def attacked(self, data: TrainingData, network: nn.Module) -> CraftedData:
        """Attack each batch of the data anew, on the network's device."""
        step = float(self.eps / 4)
        return CraftedData(data, network, Attack, Linf(float(self.eps)), constant_steps(step, self.steps))

    def robustness(self, network: nn.Module, data: TrainingData, generator: torch.Generator) -> tuple[float, float]:
        """Return the mean cross-entropy and the accuracy in [0, 1] of a network in evaluation mode under the attack."""
        loss, correct = 0.0, 0
        for images, labels in self.attacked(data, network).epoch(CHECKED, generator):
            with torch.no_grad():
                logits = network(images)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            correct += int(logits.argmax(1).eq(labels).sum())
        return loss / len(data), correct / len(data)


class Attack(ErrorMaximising):
    """Untargeted attack in the arithmetic that networks train in, bfloat16 on a GPU."""

    def slope(self, inputs: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Return the gradient of the batch's mean loss in the inputs."""
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
            return super().slope(inputs, labels)
