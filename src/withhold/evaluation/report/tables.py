"""What an evaluation measured, as JSON and as CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from withhold.evaluation.results import Attempt, CellResult, Evaluation, PairQuality, Spread, Verdict

Json = dict[str, Any]
COLUMNS = ("material", "countermeasure", "network", "seed", "last", "best", "diverged", "seconds")


def as_json(evaluation: Evaluation) -> bytes:
    """Write everything but the pictures; a number that is not finite becomes null."""
    content = {
        "verdict": _verdict(evaluation.verdict),
        "chance": evaluation.chance,
        "classes": evaluation.classes,
        "settings": evaluation.settings,
        "data": evaluation.data,
        "environment": evaluation.environment,
        "attempts": [_attempt(attempt) for attempt in evaluation.attempts],
        "quality": [_quality(pair) for pair in evaluation.quality],
    }
    return encode_json(content)


def encode_json(content: Json) -> bytes:
    """Write JSON values as one document; a number that is not finite becomes null."""
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
    # Lone surrogates, which stand for odd bytes in file names, have no UTF-8; their escapes are valid JSON.
    return (text + "\n").encode("utf-8", errors="backslashreplace")


def as_csv(evaluation: Evaluation) -> bytes:
    """Write one row for each training; `last` and `best` are empty where it diverged, and `diverged` says why."""
    target = io.StringIO()
    table = csv.writer(target, lineterminator="\n")
    table.writerow(COLUMNS)
    for attempt in evaluation.attempts:
        table.writerows(_csv_row(result) for result in attempt.results)
    return target.getvalue().encode("utf-8", errors="backslashreplace")


def _csv_row(result: CellResult) -> list[object]:
    cell = result.cell
    last, best = (None, None) if result.diverged is not None else (result.final, result.best)
    numbers = [_finite(value) for value in (last, best)]
    name = [cell.material, cell.countermeasure, cell.network, cell.seed]
    return [*name, *numbers, result.diverged, _finite(result.seconds)]


def _verdict(verdict: Verdict) -> Json:
    named = {name: getattr(verdict, name) for name in ("clean", "noise", "undefended", "strongest")}
    short = {name: _short(attempt) if attempt is not None else None for name, attempt in named.items()}
    return {"sentence": verdict.sentence, "caveats": verdict.caveats, "kept": verdict.kept, **short}


def _short(attempt: Attempt) -> Json:
    return {
        "material": attempt.material,
        "countermeasure": attempt.countermeasure,
        "network": attempt.network,
        "last": _spread(attempt.last),
        "best": _spread(attempt.best),
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        **_short(attempt),
        "says": attempt.says,
        "curve": attempt.curve,
        "per_class": attempt.per_class,
        "diverged": attempt.diverged,
        "results": [_result(result) for result in attempt.results],
    }


def _result(result: CellResult) -> Json:
    rest = {each.name: getattr(result, each.name) for each in fields(result) if each.name not in {"cell", "final"}}
    lost = result.diverged is not None
    found = {"last": None if lost else result.final, "best": None if lost else result.best}
    return {"seed": result.cell.seed, **found, **rest}


def _spread(value: Spread | None) -> Json | None:
    return None if value is None else {"mean": value.mean, "deviation": value.deviation, "count": value.count}


def _quality(pair: PairQuality) -> Json:
    return {each.name: getattr(pair, each.name) for each in fields(pair)}


def _finite(value: Any) -> Any:  # noqa: ANN401
    """Copy JSON values with null for every number that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return value
