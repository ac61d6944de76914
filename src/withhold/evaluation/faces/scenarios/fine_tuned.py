"""A recogniser trained elsewhere, then on the release."""

from dataclasses import dataclass
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.elsewhere import Learnt
from withhold.evaluation.faces.scenarios.scenario import Scenario


@dataclass(frozen=True)
class FineTuned(Scenario):
    """Fine-tune a recogniser that was trained on clean pictures of other people."""

    subject: ClassVar[str] = "A recogniser trained elsewhere and fine-tuned on the published pictures"
    learnt: ClassVar[Learnt | None] = "others"
    fine_tuned: ClassVar[bool] = True

    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Train it with a new head."""
        return competitor.fine_tune(published)
