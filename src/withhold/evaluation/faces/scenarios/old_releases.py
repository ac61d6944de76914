"""Some pictures of the same people were published before, unprotected."""

from dataclasses import dataclass
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.scenarios.scenario import Scenario


@dataclass(frozen=True)
class OldReleases(Scenario):
    """Train on older, clean pictures of the same people together with the published ones.

    To be read beside `OldAlone`: what the older pictures are worth without the others.
    """

    subject: ClassVar[str] = (
        "A recogniser trained on older, unprotected pictures of the same people together with the published ones"
    )
    old: ClassVar[bool] = True

    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Train by the recipe on both as one set."""
        return competitor.train(self.gallery(published, competitor))

    def gallery(self, published: Labelled, competitor: FaceCompetitor) -> Labelled:
        """Enrol by all pictures that the competitor has."""
        return published.joined(competitor.old)

    def pictures(self, published: int, old: int, others: int) -> int:
        """Count both."""
        del others
        return published + old
