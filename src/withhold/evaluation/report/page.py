"""The report: one self-contained page that a browser shows without any network."""

import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from withhold.evaluation.report import words
from withhold.evaluation.report.curves import curves
from withhold.evaluation.report.heat import heat
from withhold.evaluation.report.histogram import histograms
from withhold.evaluation.results import LEAST_ALIKE, Attempt, Evaluation, PairQuality, Picture

HERE = Path(__file__).parent
PIXELATED_BELOW = 256
LEAST_ALIKE_LISTED = 10
MANY_CLASSES = 40


def render(evaluation: Evaluation) -> str:
    """Draw the page; equal evaluations give equal pages.

    Everything is inside: style, script, drawings and pictures. The page forbids itself every request, and every script
    but its own, whose hash it states.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=words.percent, spread=words.spread)
    script = (HERE / "script.js").read_text(encoding="utf-8")
    page = environment.get_template("template.html").render(
        style=markupsafe.Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=markupsafe.Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **_content(evaluation),
    )
    return page.strip() + "\n"


def _content(evaluation: Evaluation) -> dict[str, Any]:
    verdict = evaluation.verdict
    shown = [_shown(picture) for picture in evaluation.pictures]
    return {
        "evaluation": evaluation,
        "verdict": verdict,
        "marks": _marks(evaluation),
        "strongest": attempt_name(verdict.strongest) if verdict.strongest else None,
        "heat": heat(evaluation),
        "curves": curves(evaluation),
        "classes": _class_rows(evaluation),
        "many_classes": len(evaluation.classes) > MANY_CLASSES,
        "sampled": [each for each in shown if each.picture.chosen != LEAST_ALIKE],
        "worst": [each for each in shown if each.picture.chosen == LEAST_ALIKE],
        "histograms": histograms(evaluation.quality),
        "least_alike": sorted(evaluation.quality, key=_likeness)[:LEAST_ALIKE_LISTED],
        "has_lpips": any(pair.lpips is not None for pair in evaluation.quality),
        "facts": [
            ("Settings", words.flat(evaluation.settings)),
            ("Data", words.flat(evaluation.data)),
            ("Environment", words.flat(evaluation.environment)),
        ],
        "material": words.material,
        "flat": words.flat,
    }


def attempt_name(attempt: Attempt) -> str:
    """Name an attempt in a sentence."""
    return f"{words.countermeasure(attempt.countermeasure)}, {attempt.network}"


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of the figure under the verdict, which compares attempts at their best epoch as the verdict does.

    Attributes:
        best: Accuracy; None if every training diverged.
        says: The same in words, with its deviation.
        last: Accuracy after the last epoch; None for guessing.
    """

    title: str
    detail: str
    kind: str
    best: float | None
    says: str
    last: float | None


def _marks(evaluation: Evaluation) -> list[Mark]:
    verdict = evaluation.verdict
    rows: list[tuple[str, str, Attempt | None]] = [
        ("Trained on the originals", "original", verdict.clean),
        ("Originals under random noise", "noise", verdict.noise),
        ("Release, undefended", "plain", verdict.undefended),
        ("Release, best competitor tried", "strongest", verdict.strongest),
    ]
    marks = [_mark(title, kind, attempt) for title, kind, attempt in rows if attempt is not None]
    chance = evaluation.chance
    return [*marks, Mark("Guessing", "the most frequent class", "chance", chance, words.percent(chance), None)]


def _mark(title: str, kind: str, attempt: Attempt) -> Mark:
    last, best = (found.mean if found else None for found in (attempt.last, attempt.best))
    says = words.spread(attempt.best) if attempt.best else "diverged"
    detail = attempt_name(attempt) if kind == "strongest" else attempt.network
    return Mark(title, detail, kind, best, says, last)


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Accuracy for one class; None without test images, or where the attempt is missing."""

    name: str
    accuracies: tuple[float | None, ...]


def _class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """List classes, those that the strongest competitor knows best on top."""
    verdict = evaluation.verdict
    tried = (verdict.clean, verdict.undefended, verdict.strongest)
    rows = [
        ClassRow(name, tuple(_of_class(attempt, index) for attempt in tried))
        for index, name in enumerate(evaluation.classes)
    ]
    return sorted(rows, key=lambda row: -1.0 if row.accuracies[2] is None else row.accuracies[2], reverse=True)


def _of_class(attempt: Attempt | None, index: int) -> float | None:
    return attempt.per_class[index] if attempt is not None and index < len(attempt.per_class) else None


def _likeness(pair: PairQuality) -> tuple[float, float]:
    return (pair.ssim, pair.psnr)


@dataclass(frozen=True, slots=True)
class Shown:
    """One pair as the page shows it: sources of its three images, and their size."""

    picture: Picture
    images: tuple[tuple[str, str], ...]
    width: int
    height: int
    pixelated: bool
    reduced: bool


def _shown(picture: Picture) -> Shown:
    width, height = _png_size(picture.original)
    titles = ("Original", "Released", f"Difference \u00d7 {picture.magnified:g}")
    sources: Sequence[bytes] = (picture.original, picture.released, picture.difference)
    images = tuple((title, _data_uri(source)) for title, source in zip(titles, sources, strict=True))
    reduced = picture.size is not None and picture.size != (width, height)
    return Shown(picture, images, width, height, max(width, height) < PIXELATED_BELOW, reduced)


def _png_size(png: bytes) -> tuple[int, int]:
    # The header of a PNG begins at byte 16 with width and height.
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
