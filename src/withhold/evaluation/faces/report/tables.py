"""What an evaluation of faces measured, as JSON and as CSV."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from withhold.evaluation.faces.results import FaceAttempt, FaceEvaluation, FaceResult, FaceVerdict
from withhold.evaluation.report.tables import Json, encode_json

CELL = ("scenario", "material", "head", "network", "seed")
RATES = ("identities", "best", "rank1", "rank5", "clean_rank1", "best_head")
CHECKED = ("accuracy", "standard_error", "auc", "eer")
END = ("diverged", "seconds")


def as_json(evaluation: FaceEvaluation) -> bytes:
    """Write everything but the pictures; a number that is not finite becomes null."""
    content = {
        "verdict": _verdict(evaluation.verdict),
        "chance": evaluation.chance,
        "identities": evaluation.identities,
        "settings": evaluation.settings,
        "data": evaluation.data,
        "environment": evaluation.environment,
        "attempts": [_attempt(attempt) for attempt in evaluation.attempts],
        "quality": [{each.name: getattr(pair, each.name) for each in fields(pair)} for pair in evaluation.quality],
    }
    return encode_json(content)


def _verdict(verdict: FaceVerdict) -> Json:
    findings = []
    for finding in verdict.findings:
        named = {name: getattr(finding, name) for name in ("released", "clean", "noise")}
        best = {name: None if attempt is None else _short(attempt) for name, attempt in named.items()}
        words = {name: getattr(finding, name) for name in ("scenario", "says", "sentence", "holds", "kept")}
        findings.append({**words, **best})
    return {
        "sentence": verdict.sentence,
        "kept": verdict.kept,
        "findings": findings,
        "caveats": verdict.caveats,
    }


def _short(attempt: FaceAttempt) -> Json:
    names = ("scenario", "material", "head", "network", "best", "rank1")
    return {name: value for name, value in _values(attempt).items() if name in names}


def _values(attempt: FaceAttempt) -> Json:
    return {name: value for name, value in asdict(attempt).items() if name != "results"}


def _attempt(attempt: FaceAttempt) -> Json:
    return {**_values(attempt), "results": [_result(result) for result in attempt.results]}


def _result(result: FaceResult) -> Json:
    rest = {name: value for name, value in asdict(result).items() if name != "cell"}
    return {"seed": result.cell.seed, "best": result.best, **rest}


def as_csv(evaluation: FaceEvaluation) -> bytes:
    """Write one row for each competitor; what was not measured is empty, and `diverged` says why."""
    results = [result for attempt in evaluation.attempts for result in attempt.results]
    crowds = _seen(count for r in results if r.identification for count, _ in r.identification.crowd)
    rates = _seen(each.far for r in results if r.verification for each in r.verification.accepts)
    target = io.StringIO()
    table = csv.writer(target, lineterminator="\n")
    among, accepted = [f"rank1_among_{count}" for count in crowds], [f"tar_at_far_{far:g}" for far in rates]
    table.writerow([*CELL, *RATES, *among, *CHECKED, *accepted, *END])
    table.writerows(_row(result, crowds, rates) for result in results)
    return target.getvalue().encode("utf-8", errors="backslashreplace")


def _row(result: FaceResult, crowds: Iterable[int], rates: Iterable[float]) -> list[Any]:
    own, clean, checked = result.identification, result.clean_gallery, result.verification
    found = [own.rank1, own.rank5] if own else [None, None]
    crowd = dict(own.crowd) if own else {}
    accepts = {each.far: each.tar for each in checked.accepts} if checked else {}
    return [
        *(getattr(result.cell, name) for name in CELL),
        result.identities,
        result.best,
        *found,
        clean.rank1 if clean else None,
        result.best_head,
        *(crowd.get(count) for count in crowds),
        *(getattr(checked, name, None) for name in CHECKED),
        *(accepts.get(far) for far in rates),
        result.diverged,
        result.seconds,
    ]


def _seen(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
