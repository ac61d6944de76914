"""The control of older pictures: what they give without the release."""

from dataclasses import dataclass
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.countermeasures.clean_alone import repeat
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.scenarios.scenario import Scenario
from withhold.evaluation.results import ORIGINAL


@dataclass(frozen=True)
class OldAlone(Scenario):
    """Train only on the older, clean pictures of the same people, and leave the published ones alone."""

    subject: ClassVar[str] = "A recogniser trained on older, unprotected pictures of the same people alone"
    materials: ClassVar[tuple[str, ...]] = (ORIGINAL,)
    old: ClassVar[bool] = True

    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Train by the recipe, for as many steps as all pictures together would take."""
        return competitor.train(repeat(competitor.old, len(published) + len(competitor.old)))

    def gallery(self, published: Labelled, competitor: FaceCompetitor) -> Labelled:
        """Enrol by the older pictures."""
        del published
        return competitor.old

    def pictures(self, published: int, old: int, others: int) -> int:
        """Count the pictures that pass in an epoch."""
        del others
        return published + old
