"""The classification layer of a network, what it reads, and training it alone."""

from torch import Tensor, nn

from withhold.errors import InvalidInput
from withhold.networks.classifier import Classifier


def classification_layer(network: Classifier) -> tuple[str, nn.Linear]:
    """Find the last linear layer with one output for each class, with its name in the network.

    Raises:
        InvalidInput: The network has none, for instance because its last layer is a convolution.
    """
    linear = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    fitting = [(name, layer) for name, layer in linear if layer.out_features == network.classes]
    if not fitting:
        found = ", ".join(f"{name} with {layer.out_features}" for name, layer in linear[-3:]) or "no linear layer"
        msg = (
            f"the classification layer of {network.architecture} must be a linear layer with one output for each of "
            f"the {network.classes} classes; found {found}. Use a network that ends in such a layer."
        )
        raise InvalidInput(msg)
    return fitting[-1]


def train_head_only(network: Classifier) -> None:
    """Freeze everything but the classification layer: its parameters, and the statistics of its batch norms.

    From then on `network.train()` leaves the frozen part in evaluation mode, so what the classification layer sees of
    an image is always the same.

    Raises:
        InvalidInput: There is no such layer.
    """
    _, layer = classification_layer(network)
    network.requires_grad_(requires_grad=False)
    layer.requires_grad_(requires_grad=True)
    network.head_only = True
    network.eval()


def features(network: Classifier, images: Tensor) -> Tensor:
    """Return what the classification layer reads: the input of a linear probe.

    Args:
        network: In the mode that it should be read in, mostly evaluation.
        images: (b, 1 or 3, h, w) in [0, 1].

    Returns:
        Tensor (b, features), with gradients if they are enabled.

    Raises:
        InvalidInput: There is no such layer, or the network has one and does not use it.
    """
    name, layer = classification_layer(network)
    read: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    try:
        network(images)
    finally:
        handle.remove()
    if not read:
        msg = f"{network.architecture} does not use its layer {name}, which looks like its classification layer."
        raise InvalidInput(msg)
    return read[-1]
