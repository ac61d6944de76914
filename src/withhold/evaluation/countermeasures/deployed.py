"""A trained network behind a transform of the images it is used on."""

from collections.abc import Callable

from torch import Tensor, nn


class Behind(nn.Module):
    """A network that sees new images through the transform it was trained with.

    Args:
        transform: Pixels (b, 3, h, w) in [0, 1] to the same.
    """

    def __init__(self, network: nn.Module, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.transform = transform
        # Set directly: train() would also change the mode of the network's modules.
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """Map pixels (b, 3, h, w) in [0, 1] to logits (b, classes)."""
        logits: Tensor = self.network(self.transform(images))
        return logits
