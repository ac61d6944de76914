"""The release among clean pictures of other people."""

from dataclasses import dataclass
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.scenarios.scenario import Scenario


@dataclass(frozen=True)
class Mixed(Scenario):
    """Train on the published pictures together with clean pictures of other people, as further identities."""

    subject: ClassVar[str] = (
        "A recogniser trained on the published pictures together with clean pictures of other people"
    )
    others: ClassVar[bool] = True

    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Train by the recipe on both sets as one; other people are numbered behind the owner's."""
        others = competitor.others
        further = Labelled(others.images, others.labels + competitor.identities)
        people = competitor.identities + int(others.labels.max()) + 1
        return competitor.train(published.joined(further), people)

    def pictures(self, published: int, old: int, others: int) -> int:
        """Count both sets."""
        del old
        return published + others
