import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.report.samples import ATTACK, evaluation

from withhold.evaluation.report.tables import COLUMNS, as_csv, as_json
from withhold.evaluation.report.write import write_report
from withhold.evaluation.results import PairQuality


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    parsed: dict[str, Any] = json.loads(as_json(evaluation()), parse_constant=refuse)
    return parsed


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(evaluation()).decode())))


def test_the_json_is_the_evaluation_without_its_pictures(content: dict[str, Any]) -> None:
    whole = evaluation()
    assert content["classes"] == list(whole.classes)
    assert content["chance"] == whole.chance
    assert content["verdict"]["sentence"] == whole.verdict.sentence
    assert content["verdict"]["strongest"]["countermeasure"] == "jpeg-10"
    assert len(content["attempts"]) == len(whole.attempts)
    assert content["attempts"][0]["curve"] == list(whole.attempts[0].curve)
    assert content["quality"][3]["psnr"] == whole.quality[3].psnr
    assert content["data"]["test"]["name"] == ATTACK
    assert "pictures" not in content


def test_what_is_not_finite_is_null(content: dict[str, Any]) -> None:
    lost = [result for one in content["attempts"] for result in one["results"] if result["diverged"]]
    assert len(lost) == 10
    assert all(result["last"] is result["best"] is None for result in lost)
    assert lost[0]["losses"] == [2.3, None]
    same = PairQuality("cat/1.png", "cat", float("inf"), 1.0, None, 0.0)
    assert json.loads(as_json(replace(evaluation(), quality=(same,))))["quality"][0]["psnr"] is None


def test_csv_and_json_agree_cell_by_cell(content: dict[str, Any]) -> None:
    expected = [
        (one["material"], one["countermeasure"], one["network"], result)
        for one in content["attempts"]
        for result in one["results"]
    ]
    table = rows()
    assert tuple(table[0]) == COLUMNS
    assert len(table) == len(expected)
    for row, (material, countermeasure, network, result) in zip(table, expected, strict=True):
        assert (row["material"], row["countermeasure"], row["network"]) == (material, countermeasure, network)
        assert int(row["seed"]) == result["seed"]
        assert (float(row["last"]) if row["last"] else None) == result["last"]
        assert (float(row["best"]) if row["best"] else None) == result["best"]
        assert (row["diverged"] or None) == result["diverged"]
        assert float(row["seconds"]) == result["seconds"]


def test_names_that_are_no_text_are_kept_apart_from_it() -> None:
    odd = PairQuality("cat/\udcff.png", "cat", 30.0, 0.9, None, 8.0)
    whole = replace(evaluation(), quality=(odd,))
    assert json.loads(as_json(whole))["quality"][0]["name"] == "cat/\udcff.png"


def test_a_report_is_three_files(tmp_path: Path) -> None:
    odd = PairQuality("cat/\udcff.png", "cat", 30.0, 0.9, None, 8.0)
    whole = replace(evaluation(), quality=(odd,))
    page = write_report(whole, tmp_path / "deep" / "report")
    assert page.name == "index.html"
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "results.json", "results.csv"}
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (page.parent / "results.json").read_bytes() == as_json(whole)
    assert (page.parent / "results.csv").read_bytes() == as_csv(whole)
