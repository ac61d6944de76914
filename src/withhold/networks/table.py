"""All networks by name, built the same way."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from withhold.errors import InvalidInput
from withhold.networks.classifier import Classifier
from withhold.networks.densenet import DenseNet
from withhold.networks.external import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Body,
    from_function,
    from_timm,
    from_transformers,
    untrained_from_timm,
    untrained_from_transformers,
)
from withhold.networks.googlenet import GoogLeNet
from withhold.networks.iresnet import IResNet, recogniser
from withhold.networks.margins import add_head
from withhold.networks.mobilenet import MobileNetV2
from withhold.networks.resnet import CifarResNet, ResNet, ResNet9, Stem
from withhold.networks.vgg import VGG
from withhold.networks.vit import VisionTransformer
from withhold.seeds import derive_seed

LARGEST_FULL_RESOLUTION = 96
"""Up to this side a network's first layer keeps the resolution; above it the ImageNet stem reduces it."""

HALF = (0.5, 0.5, 0.5)


def _stem(input_size: int) -> Stem:
    return "cifar" if input_size <= LARGEST_FULL_RESOLUTION else "imagenet"


ARCHITECTURES: Mapping[str, Callable[[int, int], nn.Module]] = {
    "resnet9": lambda classes, _: ResNet9(classes, width=16),
    "resnet9-wide": lambda classes, _: ResNet9(classes, width=64),
    "resnet10": lambda classes, side: ResNet(classes, (1, 1, 1, 1), stem=_stem(side)),
    "resnet10-narrow": lambda classes, side: ResNet(classes, (1, 1, 1, 1), width=32, stem=_stem(side)),
    "resnet18": lambda classes, side: ResNet(classes, (2, 2, 2, 2), stem=_stem(side)),
    "resnet34": lambda classes, side: ResNet(classes, (3, 4, 6, 3), stem=_stem(side)),
    "resnet20": lambda classes, _: CifarResNet(classes, blocks=3),
    "vgg19": lambda classes, _: VGG(classes),
    "googlenet": lambda classes, side: GoogLeNet(classes, stem=_stem(side)),
    "densenet121": lambda classes, side: DenseNet(classes, stem=_stem(side)),
    "mobilenetv2": lambda classes, side: MobileNetV2(classes, stem=_stem(side)),
    "vit": VisionTransformer,
    "iresnet10-narrow": lambda classes, side: recogniser(
        IResNet(side, (1, 1, 1, 1), embedding=128, width=16, stem_stride=2), classes
    ),
    "iresnet10": lambda classes, side: recogniser(IResNet(side, (1, 1, 1, 1)), classes),
    "iresnet18": lambda classes, side: recogniser(IResNet(side, (2, 2, 2, 2)), classes),
    "iresnet50": lambda classes, side: recogniser(IResNet(side, (3, 4, 14, 3)), classes),
}
"""Built-in networks: name -> builder(classes, input size)."""

RECOGNISERS = tuple(name for name in ARCHITECTURES if name.startswith("iresnet"))
"""Built-in networks with an embedding, made for aligned faces; they scale pixels to [-1, 1], as that field does."""


def _from_extractor(source: str, classes: int, input_size: int) -> Body:
    from withhold.networks.extractor import body_from  # noqa: PLC0415 - it imports this module

    return body_from(source, classes, input_size=input_size)


EXTERNAL: Mapping[str, Callable[[str, int, int], Body]] = {
    "timm": lambda name, classes, _: from_timm(name, classes),
    "transformers": lambda name, classes, _: from_transformers(name, classes),
    "extractor": _from_extractor,
}
"""Where pretrained networks come from: prefix -> loader(name, classes, input size)."""

UNTRAINED: Mapping[str, Callable[[str, int], Body]] = {
    "timm-untrained": untrained_from_timm,
    "transformers-untrained": untrained_from_transformers,
}
"""The same libraries' architectures with random weights: prefix -> builder(name, classes)."""


def build(
    name: str,
    classes: int,
    *,
    input_size: int | None = None,
    default_size: int = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    head: str = "softmax",
    seed: int = 0,
) -> Classifier:
    """Build a network by name.

    Args:
        name: A built-in name, `timm:NAME`, `transformers:NAME_OR_FOLDER`, or `module:function` for one's own.
            `extractor:SOURCE` puts a new head on an extractor of embeddings; see `extractor.recogniser_from`.
            `timm-untrained:NAME` and `transformers-untrained:NAME_OR_CONFIG_FOLDER` begin with random weights and
            download nothing; there transformers takes the name of a model type, such as vit, or a folder.
        input_size: Side of the images; if absent what the source says.
        default_size: Side where neither `input_size` nor the source says one.
        mean: Channel means in [0, 1]; if absent what the source says. Built-in networks take ImageNet's, or 0.5 where
            they are made for faces.
        std: Channel deviations, likewise.
        head: `softmax` keeps the classification layer; `cosface` and `arcface` put one of cosines in its place.
        seed: Of the initial weights. The global random state is left as it was.

    Raises:
        InvalidInput: Unknown name or head, fewer than two classes, a library that is not installed or cannot load the
            name.
    """
    if classes < 2:  # noqa: PLR2004
        msg = f"a classifier needs at least two classes; got {classes}."
        raise InvalidInput(msg)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "initial weights"))
        body = _body(name, classes, input_size or default_size)
    side = input_size or body.input_size or default_size
    given = Body(body.module, tuple(mean or body.mean), tuple(std or body.std), side, body.ready)
    network = Classifier(name, classes, side, given)
    if head != network.head:
        add_head(network, head, seed=seed)
    return network


def of_library(name: str) -> bool:
    """Tell whether a name means a network that was trained elsewhere and comes with its weights.

    >>> of_library("timm:resnet18"), of_library("timm-untrained:resnet18"), of_library("resnet18")
    (True, False, False)
    """
    return name.partition(":")[0] in EXTERNAL


def is_path(name: str) -> bool:
    """Tell whether a name leads outside the built-in networks, so that building it may import or download something."""
    return ":" in name


def _body(name: str, classes: int, input_size: int) -> Body:
    if name in ARCHITECTURES:
        mean, std = (HALF, HALF) if name in RECOGNISERS else (IMAGENET_MEAN, IMAGENET_STD)
        return Body(ARCHITECTURES[name](classes, input_size), mean, std, None)
    library, colon, rest = name.partition(":")
    if colon and library in EXTERNAL:
        return EXTERNAL[library](rest, classes, input_size)
    if colon and library in UNTRAINED:
        return UNTRAINED[library](rest, classes)
    if colon:
        return from_function(name, classes)
    msg = (
        f"unknown architecture {name!r}. Built in are {', '.join(ARCHITECTURES)}; "
        "others are named timm:NAME, transformers:NAME_OR_FOLDER (timm-untrained:NAME and transformers-untrained:NAME "
        "for random weights), extractor:WEIGHTS_FILE_OR_MODULE:FUNCTION or module:function."
    )
    raise InvalidInput(msg)
