"""Which competitors make up an evaluation of faces."""

from collections.abc import Mapping, Sequence

from withhold.errors import InvalidInput
from withhold.evaluation.faces.results import ALONE, GIVEN, STRANGER, UNTRAINED, FaceCell
from withhold.evaluation.faces.scenarios.table import SCENARIOS, find
from withhold.evaluation.faces.settings import FaceSettings

SUITES: Mapping[str, tuple[str, ...]] = {"quick": (ALONE, UNTRAINED, STRANGER), "standard": tuple(SCENARIOS)}

PLAIN_HEAD = "softmax"
HEADS: Mapping[str, tuple[str, ...]] = {"quick": (PLAIN_HEAD,), "standard": (PLAIN_HEAD, "cosface", "arcface")}
"""Losses of recognisers that are trained on the release alone; other scenarios try the first one."""


def scenarios_of(settings: FaceSettings) -> tuple[str, ...]:
    """List the scenarios to try.

    Raises:
        InvalidInput: A scenario does not exist, or is there twice.
    """
    names = settings.scenarios or SUITES[settings.suite]
    for name in names:
        find(name)
    for given, what in ((names, "scenario"), (settings.heads, "head")):
        if len(set(given)) < len(given):
            msg = f"each {what} is tried once; got {', '.join(given)}"
            raise InvalidInput(msg)
    return tuple(names)


def heads_of(scenario: str, settings: FaceSettings) -> tuple[str, ...]:
    """List the losses that a scenario's recognisers are trained by."""
    return settings.heads or (HEADS[settings.suite] if scenario == ALONE else (PLAIN_HEAD,))


def cells_of(
    settings: FaceSettings, scenarios: Sequence[str], network: str, extractor: str | None = None
) -> list[FaceCell]:
    """List every competitor of an evaluation: seed by seed, scenario by scenario, the controls before the release.

    Args:
        network: That recognisers train.
        extractor: Name of the recogniser that the user gave, which scenarios then use that need one.
    """
    cells = []
    for number in range(settings.seeds):
        for name in scenarios:
            scenario = find(name)
            used = extractor if scenario.takes_extractor else None
            as_given = used is not None and not scenario.trains
            # One that is used as it was given has no draws and no loss of ours.
            if as_given and number:
                continue
            cells += [
                FaceCell(name, material, head, used or network, settings.seed + number)
                for head in ((GIVEN,) if as_given else heads_of(name, settings))
                for material in scenario.materials
            ]
    return cells
