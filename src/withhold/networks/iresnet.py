"""Face recognisers: improved residual networks with an embedding (Duta et al., 2020; InsightFace), then one class each.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", arXiv 1801.07698, section 3.1.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

REDUCTION = 16
"""Sides of the input to sides of the last stage, without the stride of the stem."""


def _conv(inputs: int, outputs: int, stride: int = 1, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)


class ImprovedBlock(nn.Module):
    """Norm, 3 x 3 convolution, norm, PReLU, 3 x 3 convolution with the stride, norm; nothing follows the addition."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = _conv(outputs, outputs, stride)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(_conv(inputs, outputs, stride, side=1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        residual: Tensor = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        shortcut: Tensor = self.downsample(x)
        return residual + shortcut


class IResNet(nn.Module):
    """Extractor of embeddings; parameter names are those of InsightFace's `iresnet`.

    Args:
        side: Of the input. The embedding is a linear map of all pixels of the last stage, so it fits no other.
        blocks: Blocks in each of the four stages.
        embedding: Length of the embedding.
        width: Channels of the first stage; each further stage doubles them.
        stem_stride: 1 in the papers; 2 looks at every second pixel only, for a quarter of the work.
        dropout: Share of the last stage's values dropped in training.
    """

    def __init__(
        self,
        side: int,
        blocks: Sequence[int],
        *,
        embedding: int = 512,
        width: int = 64,
        stem_stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, width, stem_stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        stages = [
            nn.Sequential(
                ImprovedBlock(inputs, outputs, 2), *(ImprovedBlock(outputs, outputs, 1) for _ in range(count - 1))
            )
            for inputs, outputs, count in zip(widths[:-1], widths[1:], blocks, strict=True)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1] * math.ceil(side / (REDUCTION * stem_stride)) ** 2, embedding)
        # InsightFace keeps the weight of this norm at 1; here it is trained, since crafting differentiates all weights.
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (b, 3, side, side) to embeddings (b, embedding), not of unit length."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        embeddings: Tensor = self.features(self.fc(self.dropout(self.bn2(x)).flatten(1)))
        return embeddings


class Recogniser(nn.Module):
    """An extractor of embeddings and a linear layer over identities.

    Args:
        embedding: Length of the extractor's embeddings.
    """

    def __init__(self, extractor: nn.Module, embedding: int, classes: int) -> None:
        super().__init__()
        self.extractor = extractor
        self.classifier = nn.Linear(embedding, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map what the extractor takes to logits (b, classes)."""
        logits: Tensor = self.classifier(self.extractor(x))
        return logits


def recogniser(extractor: IResNet, classes: int) -> Recogniser:
    """Put a linear layer over identities on an extractor."""
    return Recogniser(extractor, extractor.fc.out_features, classes)
