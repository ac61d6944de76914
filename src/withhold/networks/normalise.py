"""Normalisation as a network's first layer, so that images everywhere else are pixels in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from withhold.errors import InvalidInput

RGB = 3


class Normalise(nn.Module):
    """Turn pixels in [0, 1] into what a network's body was trained on: (x - mean) / std per channel.

    One-channel images are expanded to three channels here, so that every body sees colour images.
    The two statistics are no part of the state dict: weights from elsewhere fit, and ours name them in their metadata.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != RGB or len(std) != RGB or min(std) <= 0:
            msg = f"mean and std must be three numbers each, std above 0; got mean {tuple(mean)} and std {tuple(std)}."
            raise InvalidInput(msg)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(RGB, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(RGB, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images (b, 1 or 3, h, w) to (b, 3, h, w)."""
        # No branch on the number of channels, so that the network can be traced: three expand to themselves.
        return (images.expand(-1, RGB, -1, -1) - self.mean) / self.std
