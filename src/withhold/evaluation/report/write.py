"""Puts a report into a folder."""

from pathlib import Path

from withhold.data.atomic import write_atomic
from withhold.evaluation.report.page import render
from withhold.evaluation.report.tables import as_csv, as_json
from withhold.evaluation.results import Evaluation

PAGE, JSON, CSV = "index.html", "results.json", "results.csv"


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Write the page, and the numbers as JSON and CSV; each file appears whole or not at all.

    Returns:
        The page.

    Raises:
        InvalidInput: Jinja2 is not installed.
        RunStopped: The disk is full.
    """
    # Numbers first: they are there even if the page cannot be made.
    write_atomic(folder / JSON, as_json(evaluation))
    write_atomic(folder / CSV, as_csv(evaluation))
    page = folder / PAGE
    write_atomic(page, render(evaluation).encode("utf-8", errors="xmlcharrefreplace"))
    return page
