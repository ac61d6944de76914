"""What every scenario is: from published pictures and a competitor's means to a recogniser and its gallery."""

from abc import ABC, abstractmethod
from typing import ClassVar

from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import FaceCompetitor, Trained
from withhold.evaluation.faces.elsewhere import Learnt
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED


class Scenario(ABC):
    """A way to come to a recogniser. The first line of a subclass's docstring is what the report says.

    It sees published pictures with their labels and its own means, nothing else: neither which method protected the
    pictures, nor their originals, nor a test picture.

    Attributes:
        subject: Begins a sentence about what such a recogniser recognises.
        materials: What may have been published; the controls are among them.
        others: It has clean pictures of other people, to train on beside the published ones.
        learnt: What its recogniser was trained on elsewhere; None if it has none.
        old: It has older, clean pictures of the owner's people.
        trains: It trains on pictures of the owner's people, so its head can be tested after each epoch.
        fine_tuned: It trains what was trained elsewhere.
    """

    subject: ClassVar[str]
    materials: ClassVar[tuple[str, ...]] = (ORIGINAL, NOISE, RELEASED)
    others: ClassVar[bool] = False
    learnt: ClassVar[Learnt | None] = None
    old: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    fine_tuned: ClassVar[bool] = False

    @property
    def takes_extractor(self) -> bool:
        """Tell whether a recogniser that the user gives replaces the one that was trained on other people."""
        return self.learnt == "others"

    @property
    def needs_releases(self) -> bool:
        """Tell whether other people's released versions are needed, which only the dataset's own people have."""
        return self.learnt == "others and their releases"

    def needs_people(self, *, extractor: bool) -> bool:
        """Tell whether pictures of other people are needed.

        Args:
            extractor: The user gives a recogniser.
        """
        return self.others or (self.learnt is not None and not (extractor and self.takes_extractor))

    @abstractmethod
    def __call__(self, published: Labelled, competitor: FaceCompetitor) -> Trained:
        """Return a recogniser, in evaluation mode.

        Args:
            published: Pictures of the owner's people, with labels in [0, competitor.identities).
        """

    def gallery(self, published: Labelled, competitor: FaceCompetitor) -> Labelled:
        """Return the pictures that the competitor enrols the owner's people by."""
        del competitor
        return published

    def pictures(self, published: int, old: int, others: int) -> int:
        """Count the pictures trained on, of which the recipe and the time depend.

        Args:
            published: Number of published pictures.
            old: Of the competitor's older ones.
            others: Of its pictures of other people.
        """
        del old, others
        return published if self.trains else 0
