"""A recogniser that was never trained on the owner's people."""

from dataclasses import dataclass
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.elsewhere import Learnt
from withhold.evaluation.faces.scenarios.scenario import Scenario


@dataclass(frozen=True)
class Stranger(Scenario):
    """Use a recogniser trained on other people's clean pictures: enrol the published ones, train on none of them.

    Nothing was learnt from the release here, so nothing that spoils learning from it can help: withholding the training
    value is no cloak.
    """

    subject: ClassVar[str] = "A recogniser that never trained on these people, and only enrols the published pictures,"
    learnt: ClassVar[Learnt | None] = "others"
    trains: ClassVar[bool] = False

    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Take the recogniser as it is."""
        del published
        return competitor.recogniser()
