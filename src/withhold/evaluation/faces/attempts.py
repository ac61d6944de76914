"""Results gathered over their seeds."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from withhold.evaluation.faces.results import FaceAttempt, FaceResult
from withhold.evaluation.faces.scenarios.table import sentence
from withhold.evaluation.results import Spread

Key = tuple[str, str, str, str]
Item = TypeVar("Item")


def attempts_of(results: Iterable[FaceResult]) -> tuple[FaceAttempt, ...]:
    """Gather results over their seeds; attempts keep the order of their first result."""

    def way(result: FaceResult) -> Key:
        cell = result.cell
        return cell.scenario, cell.material, cell.head, cell.network

    listed = list(results)
    order = {key: index for index, key in reversed(list(enumerate(map(way, listed))))}
    listed.sort(key=lambda result: (order[way(result)], result.cell.seed))
    return tuple(_attempt(key, list(group)) for key, group in groupby(listed, key=way))


def _attempt(key: Key, results: Sequence[FaceResult]) -> FaceAttempt:
    scenario, material, head, network = key
    known = [result.identification for result in results if result.identification]
    checked = [result.verification for result in results if result.verification]
    longest = max(len(result.curve) for result in results)
    curves = [result.curve for result in results if result.curve and len(result.curve) == longest]
    return FaceAttempt(
        scenario=scenario,
        material=material,
        head=head,
        network=network,
        says=sentence(scenario),
        identities=results[0].identities,
        best=_spread(results, lambda result: result.best),
        rank1=_spread(known, lambda found: found.rank1),
        rank5=_spread(known, lambda found: found.rank5),
        clean_rank1=_spread(results, lambda result: result.clean_gallery.rank1 if result.clean_gallery else None),
        best_head=_spread(results, lambda result: result.best_head),
        crowd=_columns([found.crowd for found in known]),
        accuracy=_spread(checked, lambda found: found.accuracy),
        auc=_spread(checked, lambda found: found.auc),
        eer=_spread(checked, lambda found: found.eer),
        accepts=_columns([[(each.far, each.tar) for each in found.accepts] for found in checked]),
        curve=tuple(sum(column) / len(column) for column in zip(*curves, strict=True)),
        diverged=sum(result.diverged is not None for result in results),
        results=tuple(results),
    )


def _spread(items: Sequence[Item], value: Callable[[Item], float | None]) -> Spread | None:
    values = [found for item in items if (found := value(item)) is not None]
    return Spread.of(values) if values else None


def _columns(rows: Sequence[Sequence[tuple[Item, float]]]) -> tuple[tuple[Item, Spread], ...]:
    """Summarise rows of (name, value) by column; all rows have the same names."""
    return tuple((column[0][0], Spread.of([value for _, value in column])) for column in zip(*rows, strict=True))
