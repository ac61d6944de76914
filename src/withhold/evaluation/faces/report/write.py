"""Puts a report of faces into a folder."""

from pathlib import Path

from withhold.data.atomic import write_atomic
from withhold.evaluation.faces.report.page import render
from withhold.evaluation.faces.report.tables import as_csv, as_json
from withhold.evaluation.faces.results import FaceEvaluation
from withhold.evaluation.report.write import CSV, JSON, PAGE


def write_face_report(evaluation: FaceEvaluation, folder: Path) -> Path:
    """Write the page, and the numbers as JSON and CSV; each file appears whole or not at all.

    Returns:
        The page.

    Raises:
        RunStopped: The disk is full.
    """
    # Numbers first: they are there even if the page cannot be made.
    write_atomic(folder / JSON, as_json(evaluation))
    write_atomic(folder / CSV, as_csv(evaluation))
    page = folder / PAGE
    write_atomic(page, render(evaluation).encode("utf-8", errors="xmlcharrefreplace"))
    return page
