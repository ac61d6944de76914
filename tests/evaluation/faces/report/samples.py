"""An evaluation of faces made up for the report: seven scenarios, three seeds, a training that diverged, hostile names.

Nobody is on its pictures: they are waves.
"""

from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from tests.evaluation.report.samples import ATTACK, photographs

from withhold.data.drawing import difference, shown
from withhold.data.pixels import Picture as Pixels
from withhold.evaluation.faces.attempts import attempts_of
from withhold.evaluation.faces.results import (
    FaceCell,
    FaceEvaluation,
    FaceResult,
    Identification,
    Person,
    Verification,
    Version,
)
from withhold.evaluation.faces.scenarios.table import find
from withhold.evaluation.faces.true_accepts import TrueAccepts
from withhold.evaluation.faces.verdict import judge
from withhold.evaluation.quality import measure_pairs, png
from withhold.evaluation.results import NOISE, ORIGINAL, RELEASED, PairQuality

PEOPLE = ("Ada", "Käfer & Söhne", "猫", "\"quoted\" 'name'", ATTACK, "a" * 60, "Grace", "Jean")
NETWORK = "iresnet10-narrow"
EPOCHS, PROBES, ENROLLED = 20, 40, 160
CROWDS = (100, 300, 700)
FARS = (1e-1, 1e-2, 1e-3)
RATES = {
    ("alone", ORIGINAL): 0.82,
    ("alone", NOISE): 0.78,
    ("alone", RELEASED): 0.21,
    ("untrained", ORIGINAL): 0.19,
    ("untrained", RELEASED): 0.17,
    ("mixed", ORIGINAL): 0.88,
    ("mixed", NOISE): 0.86,
    ("mixed", RELEASED): 0.34,
    ("fine-tuned", ORIGINAL): 0.9,
    ("fine-tuned", NOISE): 0.89,
    ("fine-tuned", RELEASED): 0.55,
    ("old-releases", ORIGINAL): 0.84,
    ("old-releases", NOISE): 0.8,
    ("old-releases", RELEASED): 0.5,
    ("old-alone", ORIGINAL): 0.48,
    ("immune", ORIGINAL): 0.89,
    ("immune", NOISE): 0.87,
    ("immune", RELEASED): 0.83,
    ("stranger", ORIGINAL): 0.7,
    ("stranger", NOISE): 0.69,
    ("stranger", RELEASED): 0.66,
}
ALL = tuple(dict.fromkeys(scenario for scenario, _ in RATES))
HEADS = {"softmax": 1.0, "cosface": 0.94, "arcface": 1.05}


def result(
    cell: FaceCell, *, rate: float | None = None, people: int = len(PEOPLE), pairs: int = 600, lost: bool = False
) -> FaceResult:
    """Make up what one competitor got: about `rate` at rank 1."""
    level = RATES[cell.scenario, cell.material] * HEADS[cell.head] if rate is None else rate
    draw = np.random.default_rng([len(cell.scenario), len(cell.material), len(cell.head), cell.seed])
    found = float(np.clip(level + draw.normal(0, 0.015), 0, 1))
    trains = cell.scenario not in {"stranger", "untrained"}
    rise = 1 - np.exp(-np.arange(1, (2 if lost else EPOCHS) + 1) / 5)
    curve = np.clip(1 / people + (found - 1 / people) * rise + draw.normal(0, 0.01, len(rise)), 0, 1)
    return FaceResult(
        cell=cell,
        config={"recipe": {"lr": 0.1}},
        curve=tuple(curve.tolist()) if trains else (),
        losses=(2.3, float("nan")) if lost else tuple(np.linspace(2.3, 0.1, EPOCHS).tolist()),
        identification=None if lost else _identified(found, people, crowd=pairs > 0),
        clean_gallery=None if lost else _identified(min(found + 0.02, 1), people, crowd=pairs > 0),
        verification=_verified(found, pairs) if pairs and not lost else None,
        identities=people,
        seconds=83.25 + cell.seed,
        environment={"torch": "2.13.0"},
        diverged="the loss is not finite after epoch 2" if lost else None,
    )


def _identified(rate: float, people: int, *, crowd: bool) -> Identification:
    among = tuple((count, rate * (1 + count / people) ** -0.15) for count in CROWDS) if crowd else ()
    return Identification(rate, min(1.0, rate + 0.12), among, ENROLLED, PROBES)


def _verified(rate: float, pairs: int) -> Verification:
    # A ROC curve of the form t = f ** a has the area 1 / (1 + a).
    power = 1 - 0.9 * rate
    far = np.linspace(0, 1, 60) ** 2
    accepts = tuple(
        TrueAccepts(each, each**power, each**power * 0.8, min(1.0, each**power * 1.2), 0.5, each, each * pairs / 2 >= 1)
        for each in FARS
    )
    curve = tuple(zip(far.tolist(), (far**power).tolist(), strict=True))
    return Verification(0.5 + rate / 3, 0.0123, 1 / (1 + power), 0.5 - rate / 3, accepts, curve, pairs)


def results(scenarios: tuple[str, ...] = ALL, seeds: int = 3, pairs: int = 600) -> list[FaceResult]:
    """Make up an evaluation's results; one seed of mixed, released, diverged."""
    return [
        result(
            FaceCell(name, material, head, NETWORK, seed),
            people=len(PEOPLE) if name in {"alone", "untrained", "old-releases", "old-alone"} else len(PEOPLE) // 2,
            pairs=pairs,
            lost=(name, material, seed) == ("mixed", RELEASED, 1),
        )
        for name in scenarios
        for head in (HEADS if name == "alone" else ("softmax",))
        for material in find(name).materials
        for seed in range(seeds)
    ]


@cache
def likeness() -> tuple[PairQuality, ...]:
    return tuple(measure_pairs(photographs(30), None))


@cache
def people(releases: tuple[str, ...] = ("released", "stronger"), side: int = 48, count: int = 6) -> tuple[Person, ...]:
    """Draw waves for people, and changes of up to 8, 16, ... levels."""
    found = []
    for (name, _, before, _), person in zip(photographs(count, side), PEOPLE, strict=False):
        versions = tuple(_version(release, before, 8 * number) for number, release in enumerate(releases, 1))
        found.append(Person(person, name, _png(shown(before)), versions, 10.0))
    return tuple(found)


def _version(release: str, before: Pixels, strength: int) -> Version:
    draw = np.random.default_rng(strength)
    levels = before.levels.astype(int)
    after = Pixels(np.clip(levels + draw.choice([-strength, strength], levels.shape), 0, 255).astype(np.uint8))
    return Version(release, float(strength), _png(shown(after)), _png(difference(before, after, 10.0)))


def _png(image: Image.Image) -> bytes:
    return png(image, Image.Resampling.NEAREST)


def evaluation(found: list[FaceResult] | None = None, **changes: Any) -> FaceEvaluation:  # noqa: ANN401
    """Make up a whole evaluation of these results, and of a default set of them."""
    attempts = attempts_of(results() if found is None else found)
    values: dict[str, Any] = {
        "settings": {"task": "faces", "suite": "standard", "seeds": 3, "seed": 0, "old_share": 20, "lpips": None},
        "data": {"originals": ATTACK, "people": len(PEOPLE), "sha256": {"original": "ab" * 32, "test": "cd" * 32}},
        "identities": PEOPLE,
        "attempts": attempts,
        "verdict": judge(attempts),
        "quality": likeness(),
        "pictures": people(),
        "environment": {"python": "3.12.1", "torch": "2.13.0", "machine": "x86_64, 2 cores"},
        **changes,
    }
    return FaceEvaluation(**values)
