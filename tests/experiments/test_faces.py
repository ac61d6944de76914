from pathlib import Path
from typing import Any

import pytest
from experiments.faces.report import expected_lines, row, section
from experiments.faces.run import HERE, FaceBench, finished, fresh, key
from experiments.faces.specification import FaceExperiment, FaceSize, FaceUnit, read, units

SIZE = FaceSize(network="net", seeds=(0,))


def experiment(*scenarios: str, steps: int = 40) -> FaceExperiment:
    return FaceExperiment(
        title="t",
        question="q",
        releases=[{"name": "ours", "settings": {"steps": steps}}],
        trials=[{"scenario": scenario} for scenario in scenarios],
    )


def bench(one: FaceExperiment, size: FaceSize = SIZE) -> FaceBench:
    return FaceBench(one, size, Path("data"), Path("work"), "cpu")


def lines_of(one: FaceExperiment, unit: FaceUnit, **rates: float) -> list[dict[str, Any]]:
    """Write what a unit leaves: a control, and the release where the scenario has one."""
    named = {**key(unit, SIZE), "identities": 62, "pictures": 10, "diverged": None, "crowd": [[700, 0.1]]}
    named |= dict.fromkeys(("rank1", "best", "rank5", "clean_gallery_rank1", "accuracy", "auc", "eer"), 0.5) | rates
    named |= {"machine": {"device": "d", "torch": "2"}}
    control = {**named, "release": "the originals", "about": bench(one).about(unit, control=True)}
    released = {**named, "about": bench(one).about(unit, control=False)}
    return [control] if unit.trial.scenario == "old-alone" else [control, released]


@pytest.mark.parametrize("scenario", ["alone", "old-alone", "stranger"])
def test_a_unit_is_finished_when_all_that_it_leaves_is_there(scenario: str) -> None:
    one = experiment(scenario)
    (unit,) = units(one, SIZE)
    lines = lines_of(one, unit)
    assert finished(lines, bench(one), unit)
    for missing in range(len(lines)):
        assert not finished(lines[:missing] + lines[missing + 1 :], bench(one), unit)
    assert {line["release"] for line in expected_lines(one, SIZE)} == {line["release"] for line in lines}


def test_lines_of_other_settings_or_epochs_do_not_count() -> None:
    one, other = experiment("alone"), experiment("alone", steps=20)
    (unit,), (changed,) = units(one, SIZE), units(other, SIZE)
    assert not finished(lines_of(one, unit), bench(other), changed)
    assert not finished(lines_of(one, unit), bench(one, FaceSize(network="net", seeds=(0,), epochs=3)), unit)


def test_controls_are_kept_once_and_the_newest_line_counts() -> None:
    one = experiment("alone")
    (unit,) = units(one, SIZE)
    control, released = lines_of(one, unit)
    assert fresh([control, released], [control]) == [released]
    old = {**released, "about": {"epochs": 9}, "rank1": 0.9}
    assert fresh([released], [old]) == [released]
    text = "\n".join(section("t", one, SIZE, [old, control, released], "cpu"))
    assert "| ours | 1 | 50.0 |" in text
    assert "90.0" not in text


def test_each_way_states_its_own_people_and_chance() -> None:
    one = experiment("mixed", "alone")
    mixed, alone = (lines_of(one, unit) for unit in units(one, SIZE))
    text = "\n".join(section("t", one, SIZE, [*({**line, "identities": 31} for line in mixed), *alone], "cpu"))
    assert "**mixed, softmax, net**; 31 people are looked up, guessing gives 3.2" in text
    assert "**alone, softmax, net**; 62 people are looked up, guessing gives 1.6" in text
    assert "still missing" not in text


def test_what_was_not_measured_is_a_dash() -> None:
    one = experiment("alone")
    (unit,) = units(one, SIZE)
    lines = [{**line, "accuracy": None, "crowd": []} for line in lines_of(one, unit)]
    assert row("ours", lines)[2:] == ["50.0", "50.0", "50.0", "50.0", "-", "-", "50.0", "50.0"]


def test_the_files_say_something_that_can_be_run() -> None:
    for path in HERE.glob("*.toml"):
        assert list(units(read(path), SIZE))
