"""Results and attempts made by hand, for what is computed from them."""

from dataclasses import replace

from withhold.evaluation.faces.attempts import attempts_of
from withhold.evaluation.faces.results import FaceAttempt, FaceCell, FaceResult, Identification, Verification
from withhold.evaluation.faces.true_accepts import TrueAccepts

PEOPLE = 50


def result(
    scenario: str = "alone",
    material: str = "released",
    rank1: float | None = 0.5,
    *,
    head: str = "softmax",
    seed: int = 0,
    curve: tuple[float, ...] = (),
    clean: float = 0.6,
    resolvable: bool = True,
    pairs: bool = True,
) -> FaceResult:
    """Make a result; without a rank-1 rate its training diverged."""
    found = None if rank1 is None else Identification(rank1, min(1.0, rank1 + 0.1), ((10, rank1), (20, 0.0)), 100, 50)
    accepts = tuple(TrueAccepts(far, 0.5, 0.4, 0.6, 0.1, far, resolvable) for far in (0.1, 0.01))
    checked = Verification(0.7, 0.01, 0.75, 0.3, accepts, ((0.0, 0.0), (1.0, 1.0)), 500)
    return FaceResult(
        cell=FaceCell(scenario, material, head, "iresnet10-narrow", seed),
        config={"epochs": 2},
        curve=curve,
        losses=(0.5,) * len(curve),
        identification=found,
        clean_gallery=None if found is None else replace(found, rank1=clean),
        verification=checked if pairs and found is not None else None,
        identities=PEOPLE,
        seconds=1.5,
        environment={"torch": "2"},
        diverged=None if found is not None else "the loss is nan",
    )


def attempts(*results: FaceResult) -> tuple[FaceAttempt, ...]:
    return attempts_of(results)


def controlled(scenario: str, released: float, clean: float = 0.8, noise: float = 0.78) -> list[FaceResult]:
    """Make the results of one scenario on all materials."""
    rates = {"original": clean, "noise": noise, "released": released}
    return [result(scenario, material, rate) for material, rate in rates.items()]
