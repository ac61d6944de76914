"""The control of training: what pictures' likeness alone gives."""

from dataclasses import dataclass
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.scenarios.scenario import Scenario
from withhold.evaluation.results import ORIGINAL, RELEASED


@dataclass(frozen=True)
class Untrained(Scenario):
    """Enrol the published pictures with a recogniser of random weights that was never trained.

    Released pictures look like their originals, so that even such a one finds some people; this much no training gave.
    """

    subject: ClassVar[str] = "A recogniser of random weights that was never trained"
    materials: ClassVar[tuple[str, ...]] = (ORIGINAL, RELEASED)
    trains: ClassVar[bool] = False

    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Build one and leave it as it is."""
        del published
        return competitor.means.new_network(competitor.identities).to(competitor.means.device).eval()
