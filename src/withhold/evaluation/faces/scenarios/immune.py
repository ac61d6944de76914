"""A recogniser that has learnt to see through the protection."""

from dataclasses import dataclass
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.elsewhere import Learnt
from withhold.evaluation.faces.scenarios.scenario import Scenario


@dataclass(frozen=True)
class Immune(Scenario):
    """Fine-tune a recogniser that was trained on other people's originals and released pictures alike.

    As the adaptive trainer of Radiya-Dixit et al., "Data Poisoning Won't Save You From Facial Recognition", ICLR 2022:
    whoever can let pictures be protected has both versions of them, under the right names.
    """

    subject: ClassVar[str] = (
        "A recogniser that learnt on other people to see through the protection, and was "
        "fine-tuned on the published pictures,"
    )
    learnt: ClassVar[Learnt | None] = "others and their releases"
    fine_tuned: ClassVar[bool] = True

    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Train it with a new head."""
        return competitor.fine_tune(published)
