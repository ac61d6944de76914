"""What an evaluation of faces measured, as values: one cell, one attempt over all its seeds, and the whole."""

from dataclasses import dataclass, field
from typing import Any

from withhold.evaluation.faces.true_accepts import TrueAccepts
from withhold.evaluation.results import PairQuality, Spread

ALONE, OLD_RELEASES, STRANGER = "alone", "old-releases", "stranger"
UNTRAINED, OLD_ALONE = "untrained", "old-alone"
"""Scenarios that the verdict treats apart; `scenarios.table.SCENARIOS` has all of them."""

GIVEN = "given"
"""Head of a recogniser that came whole from elsewhere, so that its own loss is not known."""


@dataclass(frozen=True, slots=True, order=True)
class FaceCell:
    """One competitor: what it does, with what, by which loss and network, with which draws.

    Attributes:
        scenario: A name in `SCENARIOS`.
        material: What was published: `ORIGINAL`, `NOISE` or `RELEASED` of `evaluation.results`.
        head: `softmax`, `cosface` or `arcface`, or `GIVEN`.
        network: A name that `networks.table.build` knows, or of the extractor that was given.
    """

    scenario: str
    material: str
    head: str
    network: str
    seed: int

    @property
    def name(self) -> str:
        """Name the cell in messages."""
        return f"{self.scenario}, {self.material}, {self.head}, {self.network}, seed {self.seed}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the parts of a result file's name."""
        return self.scenario, self.material, self.head, self.network, f"seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Identification:
    """Clean test pictures looked up among enrolled people; closed set.

    Attributes:
        rank1: Share of the probes whose own identity's template is the most similar one.
        rank5: Share of the probes whose own identity is among the five most similar.
        crowd: Rank-1 against growing numbers of distractors, strangers' pictures in the gallery: (distractors, rank-1)
            in rising order. The MegaFace manner (Kemelmacher-Shlizerman et al., 2016).
        enrolled: Pictures that the templates are the means of.
        probes: Test pictures looked up.
    """

    rank1: float
    rank5: float
    crowd: tuple[tuple[int, float], ...]
    enrolled: int
    probes: int


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether two clean pictures show one person, for people that nobody trained on.

    Attributes:
        accuracy: By the LFW protocol: the threshold is chosen on the other folds.
        standard_error: Of that accuracy, over the folds.
        auc: Area under the ROC curve; 0.5 is guessing.
        eer: Error rate at the threshold where both kinds of error are equally frequent.
        accepts: True accept rate at each false accept rate; one that is not `resolvable` says that pairs are too few.
        roc: (false accept rate, true accept rate), rising, at most 200 points.
    """

    accuracy: float
    standard_error: float
    auc: float
    eer: float
    accepts: tuple[TrueAccepts, ...]
    roc: tuple[tuple[float, float], ...]
    pairs: int


@dataclass(frozen=True, slots=True)
class FaceResult:
    """What one competitor got; every measured picture is clean and was never trained on.

    Attributes:
        config: Everything that the outcome depends on; a stored result is reused only for the same.
        curve: Accuracy in [0, 1] of the trained head on the test pictures after each epoch, among the owner's
            identities. Empty where no head over them was trained.
        losses: Mean training loss of each epoch.
        identification: With the gallery that the competitor has: its own pictures of the people.
        clean_gallery: The same recogniser with the originals as gallery: what the training alone did. None without a
            trained network.
        verification: On the pairs; None without pairs.
        identities: People among whom a probe is looked up.
        diverged: Why there is no trained network in the end; None if there is one. Its curve still counts.
        environment: Versions and machine.
    """

    cell: FaceCell
    config: dict[str, Any]
    curve: tuple[float, ...]
    losses: tuple[float, ...]
    identification: Identification | None
    clean_gallery: Identification | None
    verification: Verification | None
    identities: int
    seconds: float
    environment: dict[str, str]
    diverged: str | None = None

    @property
    def chance(self) -> float:
        """Return the rank-1 rate of guessing."""
        return 1 / self.identities

    @property
    def best_head(self) -> float | None:
        """Return the trained head's accuracy at its best epoch: what an oracle gets who stops in time."""
        return max(self.curve, default=None)

    @property
    def best(self) -> float | None:
        """Return the most that this competitor recognises, by templates in the end or by its head at its best epoch."""
        ways = [self.best_head, self.identification.rank1 if self.identification else None]
        return max((way for way in ways if way is not None), default=None)


@dataclass(frozen=True, slots=True)
class FaceAttempt:
    """One way to recognise people, over all its seeds. A measure is None where no seed gives it.

    Attributes:
        says: What the scenario is, in a sentence.
        identities: People among whom a probe is looked up; guessing gets 1 / identities at rank 1.
        best: The most that each seed recognises; see `FaceResult.best`.
        rank1: With the competitor's own pictures as gallery.
        rank5: Likewise.
        clean_rank1: Rank-1 with the originals as gallery.
        best_head: The trained head at its best epoch.
        crowd: Rank-1 against distractors: (their number, spread).
        accuracy: Of verification, by the LFW protocol.
        auc: Of verification.
        eer: Of verification.
        accepts: True accept rate at each false accept rate: (false accept rate, spread).
        curve: Mean accuracy of the trained head after each epoch, over the seeds that were trained longest.
        diverged: Seeds that did.
        results: One for each seed, in order.
    """

    scenario: str
    material: str
    head: str
    network: str
    says: str
    identities: int
    best: Spread | None
    rank1: Spread | None
    rank5: Spread | None
    clean_rank1: Spread | None
    best_head: Spread | None
    crowd: tuple[tuple[int, Spread], ...]
    accuracy: Spread | None
    auc: Spread | None
    eer: Spread | None
    accepts: tuple[tuple[float, Spread], ...]
    curve: tuple[float, ...]
    diverged: int
    results: tuple[FaceResult, ...] = field(repr=False)

    @property
    def chance(self) -> float:
        """Return the rank-1 rate of guessing."""
        return 1 / self.identities


@dataclass(frozen=True, slots=True)
class Finding:
    """What one scenario showed, at the head that recognises most of the people.

    Attributes:
        sentence: In words, with its own controls.
        holds: Whether the protection withholds most of what the originals give here; None where nothing follows.
        released: Best attempt on the release; None if every one diverged.
        clean: Best attempt on the originals.
        noise: Best attempt on the noise control.
        kept: Share of the recognition that is left: 0 is guessing, or in `OLD_RELEASES` what the older pictures give
            alone; 1 is what the originals give. None where nothing follows.
    """

    scenario: str
    says: str
    sentence: str
    holds: bool | None
    released: FaceAttempt | None
    clean: FaceAttempt | None
    noise: FaceAttempt | None
    kept: float | None


@dataclass(frozen=True, slots=True)
class FaceVerdict:
    """What the release withholds from recognisers and what it does not, in words and numbers.

    Attributes:
        sentence: For a reader of nothing else: training on the release alone.
        findings: One for each scenario but the controls `UNTRAINED` and `OLD_ALONE`, in the order of the suite; `ALONE`
            first if it was tried.
        caveats: Further sentences that the reader must know.
        kept: Share of the training value that is left in `ALONE`; None without a working control.
    """

    sentence: str
    findings: tuple[Finding, ...]
    caveats: tuple[str, ...]
    kept: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One released version of a picture on the sheet.

    Attributes:
        release: Name of the release's folder.
        largest: Largest change of a channel value of this picture, in 8-bit levels, as measured.
        picture: PNG bytes.
        difference: PNG bytes of the magnified difference; no change is mid grey.
    """

    release: str
    largest: float
    picture: bytes
    difference: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One row of the sheet: a person's picture as it was, and in each release.

    Attributes:
        name: Of the original.
        original: PNG bytes.
        versions: The evaluated release first, then the others in the order given.
        magnified: Factor on the differences.
    """

    identity: str
    name: str
    original: bytes
    versions: tuple[Version, ...]
    magnified: float


@dataclass(frozen=True, slots=True, eq=False)
class FaceEvaluation:
    """Everything that a report of faces shows.

    Attributes:
        settings: Every option, as plain JSON values.
        data: Names, counts and digests of the datasets, as plain JSON values.
        identities: Names of the owner's people.
        attempts: In the order of the suite.
        quality: Of every compared pair of original and released picture.
        pictures: The sheet.
        environment: Versions and machine.
    """

    settings: dict[str, Any]
    data: dict[str, Any]
    identities: tuple[str, ...]
    attempts: tuple[FaceAttempt, ...]
    verdict: FaceVerdict
    quality: tuple[PairQuality, ...]
    pictures: tuple[Person, ...]
    environment: dict[str, str]

    @property
    def chance(self) -> float:
        """Return the rank-1 rate of guessing among all of the owner's people."""
        return 1 / len(self.identities)
