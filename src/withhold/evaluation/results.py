"""What an evaluation measured, as values: one cell, one attempt over all its seeds, and the whole."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ORIGINAL, NOISE, RELEASED = "original", "noise", "released"
"""What a competitor may train on: the originals, the originals under random noise of the bound's size, the release."""

PLAIN = "none"
"""Name of training without a countermeasure."""

SAMPLED, LEAST_ALIKE = "sampled", "least alike"
"""Why a pair is shown."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One training: what on, how, by which network, with which draws.

    Attributes:
        material: `ORIGINAL`, `NOISE`, `RELEASED`, or `released-N` for a release in which N % of the images are
            protected and the others are the originals, or `rest-N` for those unprotected others alone.
        countermeasure: A name in `COUNTERMEASURES`.
        network: A name that `networks.table.build` knows.
    """

    material: str
    countermeasure: str
    network: str
    seed: int

    @property
    def name(self) -> str:
        """Name the cell in messages."""
        return f"{self.material}, {self.countermeasure}, {self.network}, seed {self.seed}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the parts of a result file's name."""
        return self.material, self.countermeasure, self.network, f"seed{self.seed}"


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one training gave.

    Attributes:
        config: Everything that the outcome depends on; a stored result is reused only for the same.
        curve: Accuracy in [0, 1] on the clean test images after each epoch.
        final: The same for the network that the competitor ends up with: of the last epoch, or of the one it chose.
        per_class: Accuracy of that network for each class; None for a class without test images.
        losses: Mean training loss of each epoch.
        facts: What the countermeasure states, such as the epsilon of its privacy.
        diverged: Why there is no trained network in the end; None if there is one. A diverged training is no
            protection: what it reached before, its curve, still counts for the best epoch.
        environment: Versions and machine.
    """

    cell: Cell
    config: dict[str, Any]
    curve: tuple[float, ...]
    final: float
    per_class: tuple[float | None, ...]
    losses: tuple[float, ...]
    facts: dict[str, float | int | str]
    seconds: float
    environment: dict[str, str]
    diverged: str | None = None

    @property
    def best(self) -> float:
        """Return the best accuracy at any time: what an oracle gets who stops in time."""
        return max((*self.curve, self.final))


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample deviation; a single value has no deviation."""

    mean: float
    deviation: float | None
    count: int

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """Summarise values.

        >>> Spread.of([1.0, 3.0])
        Spread(mean=2.0, deviation=1.4142135623730951, count=2)
        """
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return Spread(statistics.fmean(values), deviation, len(values))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to train, over all its seeds.

    Attributes:
        says: What the countermeasure does, in a sentence.
        last: Accuracy of the network that the competitor ends up with; None if every seed diverged.
        best: Accuracy at the best epoch of each seed (an oracle that stops in time), also of those that diverged later;
            None if every seed diverged in its first epoch.
        curve: Mean accuracy after each epoch, over the seeds that did not diverge.
        results: One for each seed, in order.
    """

    material: str
    countermeasure: str
    network: str
    says: str
    last: Spread | None
    best: Spread | None
    curve: tuple[float, ...]
    per_class: tuple[float | None, ...]
    diverged: int
    results: tuple[CellResult, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best that any tried competitor got, in words and numbers.

    Attributes:
        sentence: For a reader of nothing else.
        caveats: Further sentences that the reader must know.
        clean: Best attempt on the originals; None if there was none.
        noise: Best attempt on the noise control.
        undefended: Best attempt on the release without a countermeasure.
        strongest: Best attempt of all on the release, at its best epoch; None if every one diverged.
        kept: Share of the training value that the strongest attempt keeps: 0 is guessing, 1 is training on the
            originals; None without a clean control.
    """

    sentence: str
    caveats: tuple[str, ...]
    clean: Attempt | None
    noise: Attempt | None
    undefended: Attempt | None
    strongest: Attempt | None
    kept: float | None


@dataclass(frozen=True, slots=True, eq=False)
class PairQuality:
    """How alike one original and its released image are.

    Attributes:
        name: Of the original.
        psnr: dB.
        ssim: In [-1, 1].
        lpips: 0 is alike; None without its weights.
        largest: Largest change of a channel value, in 8-bit levels.
    """

    name: str
    label: str
    psnr: float
    ssim: float
    lpips: float | None
    largest: float


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One pair for the page: PNG bytes of original, released and magnified difference (no change is mid grey).

    Attributes:
        chosen: `SAMPLED` or `LEAST_ALIKE`.
        size: Width and height of the files; the PNGs of large ones are smaller. None if unknown.
    """

    quality: PairQuality
    original: bytes
    released: bytes
    difference: bytes
    magnified: float
    chosen: str = SAMPLED
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that a report shows.

    Attributes:
        settings: Every option, as plain JSON values.
        data: Names, counts and digests of the three datasets, as plain JSON values.
        classes: Names of the classes.
        chance: Accuracy of guessing the most frequent class of the test set.
        attempts: In the order of the suite.
        quality: Of every compared pair.
        pictures: Sampled pairs, then the least alike ones.
        environment: Versions and machine.
    """

    settings: dict[str, Any]
    data: dict[str, Any]
    classes: tuple[str, ...]
    chance: float
    attempts: tuple[Attempt, ...]
    verdict: Verdict
    quality: tuple[PairQuality, ...]
    pictures: tuple[Picture, ...]
    environment: dict[str, str]
