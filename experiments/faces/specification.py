"""What an experiment on faces says."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from experiments.specification import Strict
from withhold.errors import InvalidInput
from withhold.evaluation.faces.scenarios.table import find
from withhold.evaluation.faces.settings import Head
from withhold.release.settings import ProtectSettings

ORIGINALS = "the originals"
"""Name of the control on clean pictures, which every trial has, as it has one on random noise."""


class FaceSize(Strict):
    """How large an experiment is.

    Attributes:
        network: Of surrogates, and of recognisers unless a trial names others.
        epochs: Of both; 0 leaves them to the recipe.
    """

    network: str = "iresnet10-narrow"
    epochs: int = 0
    seeds: tuple[int, ...] = (0,)


SIZES = {"cpu": FaceSize(), "gpu": FaceSize(network="iresnet18", seeds=(0, 1, 2))}


class FaceRelease(Strict):
    """What the owner publishes: `settings` of `protect`, over those that all releases share."""

    name: str
    settings: dict[str, Any] = Field({})


class FaceTrial(Strict):
    """How a competitor comes to a recogniser.

    Attributes:
        network: Where it is not the size's.
    """

    scenario: str = "alone"
    head: Head = "softmax"
    network: str | None = None


class FaceExperiment(Strict):
    """One table.

    Attributes:
        protect: Settings that all releases share.
    """

    title: str
    question: str
    protect: dict[str, Any] = Field({})
    cpu: dict[str, Any] = Field({})
    gpu: dict[str, Any] = Field({})
    releases: tuple[FaceRelease, ...]
    trials: tuple[FaceTrial, ...] = (FaceTrial(),)

    def size(self, name: str) -> FaceSize:
        """Return a size, with what the experiment changes of it."""
        return FaceSize(**{**SIZES[name].model_dump(), **getattr(self, name)})

    def settings(self, release: FaceRelease, size: FaceSize, seed: int, device: str) -> ProtectSettings:
        """Return the settings that a release is crafted with."""
        how = {"task": "faces", "architecture": size.network, "epochs": size.epochs or None, "seed": seed}
        return ProtectSettings(**{**how, "device": device, **self.protect, **release.settings})


@dataclass(frozen=True, slots=True)
class FaceUnit:
    """One release, one trial, one seed; its controls come with it."""

    release: FaceRelease
    trial: FaceTrial
    seed: int


def units(experiment: FaceExperiment, size: FaceSize) -> Iterator[FaceUnit]:
    """List all units, seed by seed, trials of one release together."""
    for seed in size.seeds:
        for release in experiment.releases:
            for trial in experiment.trials:
                yield FaceUnit(release, trial, seed)


def read(path: Path) -> FaceExperiment:
    """Read an experiment file.

    Raises:
        InvalidInput: It is missing, or says something unknown.
    """
    try:
        experiment = FaceExperiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        for release in experiment.releases:
            experiment.settings(release, FaceSize(), 0, "auto")
    except (OSError, ValueError) as error:
        msg = f"{path} is no experiment on faces: {error}"
        raise InvalidInput(msg) from error
    for trial in experiment.trials:
        find(trial.scenario)
    return experiment
