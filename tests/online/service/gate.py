"""A surrogate that stops at bright images for as long as a file exists, so that a test knows what is in work."""

import os
import threading
from pathlib import Path

import numpy as np
import tests.online.protectors
from tests.online.service.fakes import encoded
from torch import Tensor, nn

VARIABLE = "WITHHOLD_TEST_GATE"
ARCHITECTURE = "tests.online.service.gate:network"
BRIGHT = 0.7


class Gate(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        bright = float(inputs.detach().mean()) > BRIGHT  # first, so that it cannot be traced, and is never traced away
        while bright and Path(os.environ[VARIABLE]).exists():
            threading.Event().wait(0.01)
        return inputs


def network(classes: int) -> nn.Module:
    return nn.Sequential(Gate(), tests.online.protectors.network(classes))


def bright(seed: int) -> bytes:
    """An image that stops."""
    levels = np.random.default_rng(seed).integers(220, 256, (16, 16, 3), np.uint8)
    return encoded("PNG", levels)
