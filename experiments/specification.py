"""What an experiment file says."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from withhold.errors import InvalidInput
from withhold.evaluation.countermeasures.table import find
from withhold.release.settings import ProtectSettings

Judge = Literal["test", "validation"]
SizeName = Literal["small", "cpu", "gpu"]


class Strict(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Size(Strict):
    """How large an experiment is.

    Attributes:
        per_class: Training images of each CIFAR-10 class, the first ones in the official order.
        network: Architecture of surrogates, and of victims unless a trial names others.
        epochs: Of surrogates and victims; 0 leaves them to the recipe.
        judge: What victims are tested on: the test set, or training images that nobody trained on, to choose defaults
            by.
        judge_per_class: Images of each class that victims are tested on, the first in the official order; all if 0.
    """

    per_class: int = 1000
    network: str = "resnet9"
    epochs: int = 12
    seeds: tuple[int, ...] = (0, 1, 2)
    judge: Judge = "test"
    judge_per_class: int = 0


SIZES: Mapping[SizeName, Size] = {
    # A night of two cores for all tables.
    "small": Size(per_class=400, seeds=(0,), judge_per_class=200),
    "cpu": Size(),
    "gpu": Size(per_class=5000, network="resnet18", epochs=30),
}


class Release(Strict):
    """What the owner publishes.

    Attributes:
        name: In tables.
        kind: `original` and `noise` are controls and have no settings.
        settings: Of `protect`, over those that the experiment's releases share.
        surrogate: Architecture of the surrogate, where it is not the size's.
        surrogate_epochs: Its training epochs, where they are not the size's.
        share: Percent of the images that are protected; the others are the originals.
        countermeasures: Trained on with these only, where others would tell nothing; with all if empty.
        small: The same at size `small`, where all would take days.
        sizes: Only at these, where crafting it would take days at others.
    """

    name: str
    kind: Literal["protected", "original", "noise"] = "protected"
    settings: dict[str, Any] = {}
    surrogate: str | None = None
    surrogate_epochs: int | None = None
    share: int = 100
    countermeasures: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    sizes: tuple[SizeName, ...] = get_args(SizeName)


class Trial(Strict):
    """How a victim is trained.

    Attributes:
        network: Where it is not the size's.
        releases: Train on these only, where what is released makes no difference; on all if empty.
        sizes: Only at these, where it would take days at others.
    """

    countermeasure: str = "none"
    network: str | None = None
    releases: tuple[str, ...] = ()
    sizes: tuple[SizeName, ...] = get_args(SizeName)


class Experiment(Strict):
    """One table.

    Attributes:
        question: What it is to answer.
        protect: Settings that all releases share.
        columns: What the table shows: rows are releases, columns `trials`, or one row each with `measures`.
    """

    title: str
    question: str
    protect: dict[str, Any] = {}
    small: dict[str, Any] = {}
    cpu: dict[str, Any] = {}
    gpu: dict[str, Any] = {}
    releases: tuple[Release, ...]
    trials: tuple[Trial, ...] = (Trial(),)
    columns: Literal["trials", "measures"] = "measures"

    def size(self, name: SizeName) -> Size:
        """Return a size, with what the experiment changes of it."""
        changes: dict[str, Any] = getattr(self, name)
        return Size(**{**SIZES[name].model_dump(), **changes})

    def settings(self, release: Release) -> ProtectSettings | None:
        """Return the settings that a release is crafted with; None for a control."""
        return ProtectSettings(**{**self.protect, **release.settings}) if release.kind == "protected" else None


@dataclass(frozen=True, slots=True)
class Unit:
    """One line of results: a release, a trial and a seed."""

    release: Release
    trial: Trial
    seed: int


def units(experiment: Experiment, name: SizeName) -> Iterator[Unit]:
    """List all units: seed by seed, cheap countermeasures first, so that a killed run leaves most of a table."""
    trials = [trial for trial in experiment.trials if name in trial.sizes]
    releases = [release for release in experiment.releases if name in release.sizes]
    for seed in experiment.size(name).seeds:
        for trial in sorted(trials, key=lambda trial: find(trial.countermeasure).cost):
            for release in releases:
                if _go_together(release, trial, name):
                    yield Unit(release, trial, seed)


def _go_together(release: Release, trial: Trial, name: SizeName) -> bool:
    only = (name == "small" and release.small) or release.countermeasures
    return (not trial.releases or release.name in trial.releases) and (not only or trial.countermeasure in only)


def read(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        InvalidInput: It is missing, says something unknown, or names one release twice.
    """
    try:
        experiment = Experiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        for release in experiment.releases:
            experiment.settings(release)
    except (OSError, ValueError) as error:
        msg = f"{path} is no experiment: {error}"
        raise InvalidInput(msg) from error
    names = [release.name for release in experiment.releases]
    for name in (*(trial.countermeasure for trial in experiment.trials), *_named(experiment)):
        find(name)
    for trial in experiment.trials:
        if absent := set(trial.releases) - set(names):
            msg = f"{path} trains on {', '.join(sorted(absent))}, which it does not release"
            raise InvalidInput(msg)
    if len(set(names)) < len(names):
        msg = f"{path} names a release twice: {', '.join(names)}"
        raise InvalidInput(msg)
    return experiment


def _named(experiment: Experiment) -> Iterator[str]:
    for release in experiment.releases:
        yield from (*release.countermeasures, *release.small)
