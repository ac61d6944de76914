"""All countermeasures by name, in the order of the report."""

import dataclasses
from collections.abc import Mapping

from withhold.data.pixels import parse_eps
from withhold.evaluation.countermeasures.adversarial import AdversarialTraining
from withhold.evaluation.countermeasures.bit_depth import BitDepth
from withhold.evaluation.countermeasures.blur import GaussianBlur
from withhold.evaluation.countermeasures.clean_alone import CleanAlone
from withhold.evaluation.countermeasures.countermeasure import Countermeasure
from withhold.evaluation.countermeasures.cutmix import CutMix
from withhold.evaluation.countermeasures.cutout import Cutout
from withhold.evaluation.countermeasures.dilution import Dilution
from withhold.evaluation.countermeasures.dp_sgd import DpSgd
from withhold.evaluation.countermeasures.early_stopping import EarlyStopping
from withhold.evaluation.countermeasures.gradient_noise import GradientNoise
from withhold.evaluation.countermeasures.grey import Grey
from withhold.evaluation.countermeasures.jpeg import Jpeg
from withhold.evaluation.countermeasures.median import MedianBlur
from withhold.evaluation.countermeasures.mixup import Mixup
from withhold.evaluation.countermeasures.noise import Noise
from withhold.evaluation.countermeasures.orthogonal import OrthogonalProjection
from withhold.evaluation.countermeasures.plain import Plain
from withhold.evaluation.countermeasures.randaugment import RandAugment
from withhold.evaluation.countermeasures.scaling import Scaling
from withhold.evaluation.countermeasures.simclr import SimCLR
from withhold.evaluation.countermeasures.standardise import Standardise
from withhold.evaluation.countermeasures.trivialaugment import TrivialAugment
from withhold.evaluation.countermeasures.ueraser import UEraserLite, UEraserMax
from withhold.evaluation.countermeasures.warp import Warp
from withhold.evaluation.countermeasures.webp import WebP
from withhold.evaluation.naming import look_up

COUNTERMEASURES: Mapping[str, Countermeasure] = {
    "none": Plain(),
    # Augmentation
    "cutout": Cutout(),
    "cutmix": CutMix(),
    "mixup": Mixup(),
    "randaugment": RandAugment(),
    "trivialaugment": TrivialAugment(),
    # Filters, noise and colour
    "blur-3": GaussianBlur(side=3, sigma=0.8),
    "blur-5": GaussianBlur(side=5, sigma=1.0),
    "median-3": MedianBlur(side=3),
    "noise-8": Noise(deviation=float(parse_eps("8/255"))),
    "noise-13": Noise(deviation=0.05),
    "grey": Grey(),
    "grey-test": Grey(test_images=True),
    "bits-2": BitDepth(bits=2),
    "bits-4": BitDepth(bits=4),
    # Formats and sizes of release
    "jpeg-10": Jpeg(quality=10),
    "jpeg-30": Jpeg(quality=30),
    "jpeg-50": Jpeg(quality=50),
    "jpeg-75": Jpeg(quality=75),
    "jpeg-90": Jpeg(quality=90),
    "webp-50": WebP(quality=50),
    "webp-80": WebP(quality=80),
    "scaling": Scaling(),
    # Made against protection
    "ueraser-lite": UEraserLite(),
    "ueraser-max": UEraserMax(),
    "ueraser-max-jpeg": UEraserMax(jpeg=True),
    "standardise": Standardise(),
    "warp": Warp(),
    "warp-smooth": Warp(spacing=4),
    "orthogonal": OrthogonalProjection(),
    # Other ways of training
    "adversarial-8": AdversarialTraining(eps=parse_eps("8/255")),
    "adversarial-4": AdversarialTraining(eps=parse_eps("4/255")),
    "early-stopping": EarlyStopping(validation=500),
    "gradient-noise": GradientNoise(clip=1.0, noise=0.01),
    "dp-sgd": DpSgd(clip=1.0, noise=0.6),
    "simclr": SimCLR(),
    # More images
    "dilution-500": Dilution(count=500),
    "dilution-4000": Dilution(count=4000),
    "clean-500": CleanAlone(count=500),
    "clean-4000": CleanAlone(count=4000),
}
"""Name -> countermeasure."""


def find(name: str) -> Countermeasure:
    """Look a countermeasure up.

    Raises:
        InvalidInput: There is none of this name.
    """
    return look_up(name, COUNTERMEASURES, "countermeasure")


def sentence(countermeasure: Countermeasure) -> str:
    """Say in one sentence what a countermeasure does, with its parameters.

    >>> sentence(COUNTERMEASURES["bits-2"])
    'Round every training image to fewer levels per channel; bits: 2.'
    """
    what = (countermeasure.__doc__ or "").partition("\n")[0].removesuffix(".")
    parameters = [(field.name, getattr(countermeasure, field.name)) for field in _fields(countermeasure)]
    listed = ", ".join(f"{name.replace('_', ' ')}: {_worded(value)}" for name, value in parameters)
    return f"{what}; {listed}." if listed else f"{what}."


def _fields(countermeasure: Countermeasure) -> tuple[dataclasses.Field[object], ...]:
    return dataclasses.fields(countermeasure) if dataclasses.is_dataclass(countermeasure) else ()


def _worded(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
