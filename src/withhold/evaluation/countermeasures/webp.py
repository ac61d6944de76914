"""WebP compression before training, as platforms that re-encode what they show do."""

from dataclasses import dataclass

from torch import Tensor, nn

from withhold.evaluation.competitor import Competitor
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.jpeg import reencoded


@dataclass(frozen=True)
class WebP(Countermeasure):
    """Compress every training image as lossy WebP.

    Attributes:
        quality: From 0 to 100; Pillow's default is 80.
    """

    quality: int

    def __call__(self, images: Tensor, labels: Tensor, competitor: Competitor) -> nn.Module:
        """Train on the decoded files."""
        return competitor.train(competitor.views(reencoded(images, "WEBP", quality=self.quality), labels))
