"""What every countermeasure is: from released images and labels to a trained network."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Int, UInt8
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor


class Countermeasure(ABC):
    """A way to train on images that may be protected; subclasses are frozen dataclasses of their parameters.

    It sees images and labels and its own means, nothing else: neither which method protected the images, nor how
    strongly, nor their originals, nor a test image. The first line of a subclass's docstring is what the report says.

    Attributes:
        cost: Time compared with plain training, about, for an estimate of the whole.
        outside_data: It trains on images of the competitor's own; its accuracy is not owed to the release alone.
        packages: Modules beyond Withhold's own dependencies that it imports, with the extra that brings them.
    """

    cost: ClassVar[float] = 1.0
    outside_data: ClassVar[bool] = False
    packages: ClassVar[dict[str, str]] = {}

    @property
    def clean_images(self) -> int:
        """Count the clean images of the same classes that the competitor must own for this."""
        return 0

    @abstractmethod
    def __call__(
        self, images: UInt8[Tensor, "n 3 h w"], labels: Int[Tensor, " n"], competitor: Competitor
    ) -> nn.Module:
        """Train and return the network as it would be deployed: pixels (b, 3, s, s) in [0, 1] to logits."""
