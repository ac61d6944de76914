import json
from dataclasses import replace
from pathlib import Path

import pytest

from withhold.errors import InvalidInput
from withhold.evaluation.results import Cell, CellResult
from withhold.evaluation.store import Store

CELL = Cell("released", "jpeg-10", "timm:resnet50/a", 3)
CONFIG = {"cell": {"seed": 3}, "recipe": {"epochs": 2}}
RESULT = CellResult(
    cell=CELL,
    config=CONFIG,
    curve=(0.25, 0.5),
    final=0.5,
    per_class=(0.5, None),
    losses=(1.0, 0.5),
    facts={"epsilon": 8.25, "chosen_epoch": 2, "note": "ü"},
    seconds=1.5,
    environment={"torch": "2"},
)


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path / "cells")
    store.save(RESULT)
    assert store.load(CELL, CONFIG) == RESULT


def test_a_diverged_result_comes_back_with_its_reason(tmp_path: Path) -> None:
    store = Store(tmp_path)
    diverged = replace(RESULT, curve=(), final=0.0, diverged="the loss is nan")
    store.save(diverged)
    assert store.load(CELL, CONFIG) == diverged


def test_another_configuration_is_another_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(RESULT)
    other = {**CONFIG, "recipe": {"epochs": 3}}
    assert store.load(CELL, other) is None
    store.save(replace(RESULT, config=other, final=0.75))
    assert store.load(CELL, CONFIG) == RESULT
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_the_order_of_keys_does_not_matter(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(RESULT)
    assert store.load(CELL, dict(reversed(CONFIG.items()))) == RESULT


def test_names_of_files_are_plain(tmp_path: Path) -> None:
    name = Store(tmp_path).save(RESULT).name
    assert name.startswith("released.jpeg-10.timm_resnet50_a.seed3.")


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_half_a_file_is_refused_with_its_name(tmp_path: Path, cut: int) -> None:
    store = Store(tmp_path)
    path = store.save(RESULT)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidInput, match=path.name):
        store.load(CELL, CONFIG)


def test_a_result_of_another_configuration_under_this_name_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.save(RESULT)
    content = json.loads(path.read_text())
    content["config"]["recipe"]["epochs"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match="was changed"):
        store.load(CELL, CONFIG)


def test_a_file_that_cannot_be_written_whole_leaves_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="nan"):
        store.save(replace(RESULT, final=float("nan")))
    assert list(tmp_path.iterdir()) == []
