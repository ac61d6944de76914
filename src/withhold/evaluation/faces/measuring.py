"""What a recogniser can do with clean pictures: look people up, and tell whether two pictures show one person."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from withhold.errors import InvalidInput
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.faces.competitor import Trained
from withhold.evaluation.faces.data import PairImages
from withhold.evaluation.faces.embeddings import Faces, cosine_scores
from withhold.evaluation.faces.identification import measure_crowd, measure_identification
from withhold.evaluation.faces.results import Identification, Verification
from withhold.evaluation.faces.verification import measure_verification
from withhold.networks.classifier import Classifier
from withhold.networks.extractor import Extractor, of_network
from withhold.networks.training import Diverged

ROC_POINTS = 200

DIGITS = 6
"""Decimals of the rates that are kept."""

Embeddings = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Measuring:
    """A recogniser, and the clean pictures that it is measured on; each is embedded once.

    Attributes:
        probes: Test pictures of the owner's people.
        pairs: Of people outside; None without.
        crowds: Numbers of their pictures among which people are looked up; all of them are one more.
        seed: Of the draws of distractors, folds and intervals.
    """

    recogniser: Trained
    probes: Labelled
    pairs: PairImages | None
    crowds: tuple[int, ...]
    seed: int
    _probes: Faces = field(init=False)
    _strangers: Embeddings | None = field(init=False)

    def __post_init__(self) -> None:
        self._probes = self._faces(self.probes)
        self._strangers = None if self.pairs is None else self._embed(self.pairs.images)

    def identification(self, gallery: Labelled) -> Identification:
        """Look the owner's people up in a gallery, alone and in a crowd of strangers.

        Raises:
            Diverged: A recogniser that was trained here gives embeddings that are not finite.
        """
        enrolled = self._faces(gallery)
        found = measure_identification(enrolled, self._probes)
        crowd: tuple[tuple[int, float], ...] = ()
        if self._strangers is not None:
            among = measure_crowd(enrolled, self._probes, self._strangers, sizes=self.crowds, seed=self.seed)
            crowd = tuple((point.distractors, round(point.rank1.mean, DIGITS)) for point in among.points)
        return Identification(
            round(found.rank1, DIGITS), round(found.rank5, DIGITS), crowd, found.gallery, found.probes
        )

    def verification(self) -> Verification | None:
        """Measure verification on the pairs; None without."""
        if self.pairs is None or self._strangers is None:
            return None
        pairs, embeddings = self.pairs.pairs, self._strangers
        scores = cosine_scores(embeddings[pairs.first], embeddings[pairs.second])
        found = measure_verification(scores, pairs.same, pairs.folds, seed=self.seed)
        curve = found.roc.thinned(ROC_POINTS)
        return Verification(
            accuracy=round(found.lfw.mean, DIGITS),
            standard_error=round(found.lfw.standard_error, DIGITS),
            auc=round(found.auc, DIGITS),
            eer=round(found.equal_error.rate, DIGITS),
            accepts=found.true_accepts,
            roc=tuple((round(far, DIGITS), round(tar, DIGITS)) for far, tar in zip(curve.fpr, curve.tpr, strict=True)),
            pairs=len(pairs),
        )

    def _faces(self, pictures: Labelled) -> Faces:
        return Faces(self._embed(pictures.images), pictures.labels.numpy())

    def _embed(self, images: Tensor) -> Embeddings:
        recogniser = self.recogniser
        if not isinstance(recogniser, Classifier):
            return _numbers(recogniser, images)
        try:
            return _numbers(of_network(recogniser), images)
        except InvalidInput as error:
            raise Diverged(str(error)) from error


def _numbers(extractor: Extractor, images: Tensor) -> Embeddings:
    embeddings: Embeddings = extractor.embed(images).numpy()
    return embeddings
