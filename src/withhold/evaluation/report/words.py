"""How numbers and names are written on the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from withhold.evaluation.countermeasures.table import COUNTERMEASURES
from withhold.evaluation.results import NOISE, ORIGINAL, PLAIN, RELEASED, Attempt, Spread

NO_BREAK = "\u00a0"
MATERIALS = {ORIGINAL: "the originals", NOISE: "the originals under random noise", RELEASED: "the release"}


def percent(share: float) -> str:
    """Write a share as percent, without the sign, rounded as in the verdict's sentence.

    >>> percent(0.6127)
    '61.3'
    """
    return f"{100 * share:.1f}"


def spread(value: Spread) -> str:
    """Write a mean in percent with its deviation, if it has one.

    >>> spread(Spread(0.5, 0.0123, 3)).replace(NO_BREAK, " ")
    '50.0 ± 1.2'
    """
    if value.deviation is None:
        return percent(value.mean)
    return f"{percent(value.mean)}{NO_BREAK}±{NO_BREAK}{percent(value.deviation)}"


def material(name: str) -> str:
    """Say in words what was trained on.

    >>> material("released-20"), material("rest-20")
    ('20 % protected, the others original', 'only the 80 % that are original')
    """
    kind, _, share = name.partition("-")
    if name in MATERIALS or not share.isdigit():
        return MATERIALS.get(name, name)
    if kind == RELEASED:
        return f"{share} % protected, the others original"
    return f"only the {100 - int(share)} % that are original"


def countermeasure(name: str) -> str:
    """Name a countermeasure; none at all gets a word."""
    return "no countermeasure" if name == PLAIN else name


def top(attempt: Attempt) -> float | None:
    """Return the most an attempt got, after its last epoch or at its best one; None if it always diverged."""
    found = [value.mean for value in (attempt.last, attempt.best) if value is not None]
    return max(found, default=None)


def uses_own_images(attempt: Attempt) -> bool:
    """Say whether the competitor trains on clean images of its own, so that the verdict leaves the attempt out."""
    known = COUNTERMEASURES.get(attempt.countermeasure)
    return known is not None and known.outside_data


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:  # noqa: ANN401
    """List the leaves of nested JSON values under dotted names.

    >>> flat({"recipe": {"lr": 0.1}, "networks": ["resnet18", "vit"]})
    [('recipe.lr', '0.1'), ('networks', 'resnet18, vit')]
    """
    if isinstance(value, Mapping) and value:
        return [leaf for key, inner in value.items() for leaf in flat(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(inner, Mapping) for inner in value):
            return [leaf for index, inner in enumerate(value) for leaf in flat(inner, f"{name}[{index}]")]
        return [(name, ", ".join(str(inner) for inner in value) or "none")]
    return [(name, "not given" if value is None else str(value))]
