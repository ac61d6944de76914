"""One cell: a competitor comes to a recogniser of published faces in one scenario, and it is measured on clean ones."""

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from withhold.data.atomic import write_atomic
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Means
from withhold.evaluation.faces.data import FaceSets
from withhold.evaluation.faces.elsewhere import Elsewhere, Given, Learnt, Pretrained, Pretraining
from withhold.evaluation.faces.measuring import DIGITS, Measuring
from withhold.evaluation.faces.results import FaceCell, FaceResult
from withhold.evaluation.faces.roles import Roles, cast, drawn_share
from withhold.evaluation.faces.scenarios.scenario import Scenario
from withhold.evaluation.faces.scenarios.table import find
from withhold.evaluation.faces.settings import FaceSettings
from withhold.evaluation.results import ORIGINAL, RELEASED
from withhold.evaluation.store import file_stem
from withhold.evaluation.training import environment
from withhold.networks.checkpoint import encode
from withhold.networks.classifier import Classifier
from withhold.networks.margins import LOSSES
from withhold.networks.recipe import Recipe, recipe_for
from withhold.networks.training import Diverged, EpochResult, as_unit
from withhold.version import __version__

MARGINS = "pytorch-metric-learning"
"""Distribution of the library whose margins recognisers are trained with."""

TESTED = 500
"""Pictures classified at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceHarness:
    """What all cells of an evaluation of faces share.

    Attributes:
        network: That recognisers train.
        pretrained: Folder of recognisers that were trained on other people.
        extractor: A recogniser that the user gave, with a digest of its weights; None without.
    """

    sets: FaceSets
    settings: FaceSettings
    network: str
    pretrained: Path
    device: torch.device
    extractor: tuple[Given, str] | None = None

    def run(self, cell: FaceCell) -> FaceResult:
        """Come to a recogniser and measure it; a training that diverges is a result too.

        What the scenario needs from elsewhere must have been trained; see `Pretrainer`.
        """
        began = time.monotonic()
        scenario, roles = find(cell.scenario), self.roles(find(cell.scenario))
        watch = _Watch(roles.test, len(roles.people))
        published, competitor = self._given(cell, scenario, roles, watch)
        own = clean = verification = diverged = None
        try:
            recogniser = scenario(published, competitor)
            measured = Measuring(recogniser, roles.test, self.sets.pairs, self.crowds(), self.settings.seed)
            own = measured.identification(scenario.gallery(published, competitor))
            clean = measured.identification(roles.published(ORIGINAL))
            verification = measured.verification()
        except Diverged as error:
            diverged = str(error)
        return FaceResult(
            cell=cell,
            config=self.config(cell),
            curve=tuple(watch.curve),
            losses=tuple(watch.losses),
            identification=own,
            clean_gallery=clean,
            verification=verification,
            identities=len(roles.people),
            seconds=round(time.monotonic() - began, 1),
            environment=environment(self.device),
            diverged=diverged,
        )

    def config(self, cell: FaceCell) -> dict[str, Any]:
        """Give everything that the cell's outcome depends on, as plain JSON values."""
        scenario, settings = find(cell.scenario), self.settings
        roles = self.roles(scenario)
        used = {ORIGINAL, cell.material, "test", "pairs"}
        used |= {"others"} if roles.with_others and not roles.drawn else set()
        pretraining = self.pretraining(cell)
        return {
            "cell": asdict(cell),
            "scenario": type(scenario).__name__,
            "recipe": asdict(self.recipe(cell)) if scenario.trains else None,
            "elsewhere": self.pretraining_config(pretraining) if pretraining else self._given_digest(scenario),
            "input_size": self.sets.side,
            "people": list(roles.people) if roles.drawn else "all",
            "old_share": settings.old_share if scenario.old else None,
            "distractors": list(self.crowds()),
            "data": {name: found for name, found in sorted(self.sets.digests.items()) if name in used},
            "drawn": settings.seed,
            **self._versions(cell.head),
        }

    def pretraining_config(self, task: Pretraining) -> dict[str, Any]:
        """Give everything that a training on other people depends on, as plain JSON values."""
        roles = self._roles_of(task.learnt)
        half = [ORIGINAL, RELEASED] if task.learnt != "others" else [ORIGINAL]
        return {
            "pretraining": asdict(task),
            "recipe": asdict(recipe_for(task.network, self._count_learnt(task.learnt), epochs=self.settings.epochs)),
            "input_size": self.sets.side,
            "without": list(roles.people) if roles.drawn else None,
            "data": {name: self.sets.digests[name] for name in (half if roles.drawn else ["others"])},
            **self._versions(task.head),
        }

    def _versions(self, head: str) -> dict[str, Any]:
        margins = {"margins": version(MARGINS)} if head in LOSSES else {}
        return {
            "device": self.device.type,
            "compiled": self.settings.compiled,
            "withhold": __version__,
            "torch": torch.__version__,
            **margins,
        }

    def roles(self, scenario: Scenario) -> Roles:
        """Say who plays whom in a scenario."""
        needed = scenario.needs_people(extractor=self.extractor is not None)
        return cast(self.sets, others=needed, released=scenario.needs_releases)

    def uses_extractor(self, scenario: Scenario) -> bool:
        """Tell whether a scenario's recogniser from elsewhere is the one that the user gave."""
        return self.extractor is not None and scenario.takes_extractor

    def _roles_of(self, learnt: Learnt) -> Roles:
        return cast(self.sets, others=True, released=learnt != "others")

    def _given_digest(self, scenario: Scenario) -> str | None:
        return self.extractor[1] if self.extractor is not None and self.uses_extractor(scenario) else None

    def pretraining(self, cell: FaceCell) -> Pretraining | None:
        """Name the training on other people that a cell needs."""
        scenario = find(cell.scenario)
        if scenario.learnt is None or self.uses_extractor(scenario):
            return None
        return Pretraining(scenario.learnt, cell.head, cell.network, cell.seed)

    def learnt_from(self, learnt: Learnt) -> Labelled:
        """Return what a training on other people gets."""
        roles = self._roles_of(learnt)
        return roles.others if learnt == "others" else roles.others.joined(roles.others_released)

    def _count_learnt(self, learnt: Learnt) -> int:
        count = self._roles_of(learnt).count_others()
        return count if learnt == "others" else 2 * count

    def weights(self, task: Pretraining) -> Path:
        """Name the file of a recogniser that was trained on other people."""
        return self.pretrained / f"{file_stem(task, self.pretraining_config(task))}.safetensors"

    def images_of(self, cell: FaceCell) -> int:
        """Count the pictures that pass in an epoch of a cell's training; 0 where there is none."""
        scenario, roles = find(cell.scenario), self.roles(find(cell.scenario))
        published = roles.published(cell.material)
        old = int(self._old(published.labels).sum()) if scenario.old else 0
        return scenario.pictures(len(published) - old, old, roles.count_others())

    def recipe(self, cell: FaceCell) -> Recipe:
        """Choose how a cell's recogniser is trained."""
        fine_tuned = find(cell.scenario).fine_tuned
        return recipe_for(cell.network, self.images_of(cell), epochs=self.settings.epochs, pretrained=fine_tuned)

    def means(self, network: str, head: str, seed: int) -> Means:
        """Give what a recogniser is trained with."""
        settings = self.settings
        return Means(network, head, self.sets.side, seed, self.device, settings.epochs, compiled=settings.compiled)

    def _given(
        self, cell: FaceCell, scenario: Scenario, roles: Roles, watch: "_Watch"
    ) -> tuple[Labelled, FaceCompetitor]:
        """Return what was published, and what the competitor has besides.

        Older pictures of the owner's people were published as they were, so they are taken out of the release.
        """
        published = roles.published(cell.material)
        old = self._old(published.labels) if scenario.old else torch.zeros(len(published), dtype=torch.bool)
        competitor = FaceCompetitor(
            means=self.means(cell.network, cell.head, cell.seed),
            identities=len(roles.people),
            others=roles.others if scenario.others else self.sets.others.take(torch.arange(0)),
            old=roles.published(ORIGINAL).take(old),
            elsewhere=self._elsewhere(cell, scenario),
            on_epoch=watch,
        )
        return published.take(~old), competitor

    def _old(self, labels: Tensor) -> Tensor:
        return drawn_share(labels, self.settings.old_share, self.settings.seed)

    def _elsewhere(self, cell: FaceCell, scenario: Scenario) -> Elsewhere | None:
        pretraining = self.pretraining(cell)
        if pretraining is not None:
            return Pretrained(self.weights(pretraining), cell.network)
        return self.extractor[0] if self.extractor is not None and self.uses_extractor(scenario) else None

    def crowds(self) -> tuple[int, ...]:
        """List the numbers of distractors, as far as the pairs have so many pictures."""
        available = 0 if self.sets.pairs is None else len(self.sets.pairs.images)
        return tuple(count for count in self.settings.distractors if count <= available)


@dataclass(frozen=True, slots=True, eq=False)
class Pretrainer:
    """Trains recognisers on other people, and keeps their weights."""

    harness: FaceHarness
    device: torch.device

    def run(self, task: Pretraining) -> Path:
        """Train one and name its file, which appears whole or, if the training diverges, not at all.

        What depends on it then diverges too; see `Pretrained`.
        """
        harness = replace(self.harness, device=self.device)
        pictures = harness.learnt_from(task.learnt)
        means = harness.means(task.network, task.head, task.seed)
        path = harness.weights(task)
        with contextlib.suppress(Diverged):
            network = means.train(means.new_network(int(pictures.labels.max()) + 1), pictures)
            write_atomic(path, encode([network], details={"trained on": task.learnt}))
        return path


class _Watch:
    """Tests the head over the owner's people on clean pictures after each epoch; no scenario sees these pictures."""

    def __init__(self, test: Labelled, identities: int) -> None:
        self._test = test
        self._identities = identities
        self.curve: list[float] = []
        self.losses: list[float] = []

    def __call__(self, network: Classifier, result: EpochResult) -> None:
        device = next(network.parameters()).device
        with torch.inference_mode():
            # Other people's classes are left out: everyone on the test pictures is one of the owner's.
            found = [
                network(as_unit(images).to(device))[:, : self._identities].argmax(1).cpu()
                for images in torch.split(self._test.images, TESTED)
            ]
        self.curve.append(round(float((torch.cat(found) == self._test.labels).double().mean()), DIGITS))
        self.losses.append(round(result.loss, DIGITS))
