"""Training on the release and nothing else."""

from dataclasses import dataclass
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.scenarios.scenario import Scenario


@dataclass(frozen=True)
class Alone(Scenario):
    """Train a recogniser only on the published pictures."""

    subject: ClassVar[str] = "A recogniser trained on the published pictures alone"

    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Train by the recipe."""
        return competitor.train(published)
