"""Which trainings make up an evaluation."""

from collections.abc import Mapping, Sequence

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.table import COUNTERMEASURES, find
from withhold.evaluation.results import NOISE, ORIGINAL, PLAIN, RELEASED, Cell
from withhold.evaluation.settings import EvaluateSettings

SHARES = (20, 50, 80)
"""Percent of a set that is released protected, the rest as it is, in the full suite."""

SUITES: Mapping[str, tuple[str, ...]] = {
    "quick": (PLAIN,),
    "standard": (PLAIN, "trivialaugment", "cutmix", "blur-5", "grey", "bits-2", "jpeg-10", "jpeg-50", "early-stopping"),
    "full": tuple(COUNTERMEASURES),
}


def cells_of(settings: EvaluateSettings, networks: Sequence[str]) -> list[Cell]:
    """List every training of an evaluation: controls first, then the release, seed by seed.

    Raises:
        InvalidInput: A countermeasure does not exist.
    """
    names = settings.countermeasures or SUITES[settings.suite]
    for name in names:
        find(name)
    if len(set(names)) < len(names):
        msg = f"each countermeasure is tried once; got {', '.join(names)}"
        raise InvalidInput(msg)
    tried = [(ORIGINAL, PLAIN), (NOISE, PLAIN), *((RELEASED, name) for name in names)]
    if settings.suite == "full" and not settings.countermeasures:
        tried += [(f"{kind}-{share}", PLAIN) for share in SHARES for kind in ("released", "rest")]
    return [
        Cell(material, countermeasure, network, settings.seed + number)
        for number in range(settings.seeds)
        for network in networks
        for material, countermeasure in tried
    ]
