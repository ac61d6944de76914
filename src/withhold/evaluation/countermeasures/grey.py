"""Training on grey images, as in Image Shortcut Squeezing (Liu et al., arXiv 2301.13838)."""

from dataclasses import dataclass

from kornia.color import rgb_to_grayscale
from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.batches import transformed
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.deployed import Behind


@dataclass(frozen=True)
class Grey(Countermeasure):
    """Make every training image grey, in three equal channels.

    Attributes:
        test_images: The deployed network makes the images it is used on grey as well. Published tables differ in this;
            grey training with colour test images costs accuracy on unprotected data too.
    """

    test_images: bool = False

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on grey images."""
        data = competitor.views(transformed(images, grey), labels)
        if self.test_images:
            return competitor.train(data, deploy=lambda network: Behind(network, grey))
        return competitor.train(data)


def grey(images: Tensor) -> Tensor:
    """Replace the channels of images (n, 3, h, w) by their luma: 0.299 red, 0.587 green, 0.114 blue."""
    luma: Tensor = rgb_to_grayscale(images)
    return luma.expand_as(images)
