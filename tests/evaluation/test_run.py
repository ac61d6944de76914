import json
from pathlib import Path

import pytest
from filelock import FileLock
from tests.evaluation.datasets import CLASSES, Folders, folders
from tests.release.fakes import Listener

from withhold.data.atomic import partial_of
from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation import run
from withhold.evaluation.jobs import Workers
from withhold.evaluation.results import Cell, CellResult, Evaluation
from withhold.evaluation.run import evaluate
from withhold.evaluation.settings import EvaluateSettings
from withhold.evaluation.training import Harness
from withhold.progress import SILENT, Reporter

TINY = "tests.evaluation.datasets:tiny"
QUICK = EvaluateSettings(suite="quick", epochs=1, device="cpu", networks=(TINY,))


@pytest.fixture
def data(tmp_path: Path) -> Folders:
    return folders(tmp_path)


def evaluated(
    data: Folders, output: Path, settings: EvaluateSettings = QUICK, reporter: Reporter = SILENT
) -> Evaluation:
    return evaluate(data.originals, data.released, data.test, output, settings, reporter=reporter)


def stored(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / "cells").iterdir())}


def test_an_evaluation_writes_page_numbers_and_one_file_for_each_training(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    evaluation = evaluated(data, output)
    assert {path.name for path in output.iterdir()} >= {"index.html", "results.json", "results.csv", "cells"}
    assert len(stored(output)) == 3
    document = json.loads((output / "results.json").read_text())
    assert document["verdict"]["sentence"] == evaluation.verdict.sentence
    assert evaluation.verdict.sentence in (output / "index.html").read_text().replace("&#39;", "'")
    assert evaluation.chance == 0.5


def test_a_second_call_trains_nothing_and_a_larger_one_only_what_is_missing(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    evaluated(data, output)
    before = stored(output)
    listener = Listener()
    evaluated(data, output, reporter=listener)
    assert stored(output) == before
    assert "Training competitors" not in [task for task, _ in listener.tasks]
    evaluated(data, output, QUICK.model_copy(update={"seeds": 2}), reporter=listener)
    assert ("Training competitors", 3) in listener.tasks
    assert {name: content for name, content in stored(output).items() if name in before} == before


def test_an_interrupted_evaluation_keeps_what_was_trained(
    data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, ran, whole = tmp_path / "report", Harness.run, []

    def interrupted(harness: Harness, cell: Cell) -> CellResult:
        if cell.material == "released":
            raise KeyboardInterrupt
        whole.append(cell)
        return ran(harness, cell)

    monkeypatch.setattr(Harness, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluated(data, output)
    assert len(stored(output)) == len(whole) == 2
    monkeypatch.setattr(Harness, "run", ran)
    listener = Listener()
    evaluated(data, output, reporter=listener)
    assert ("Training competitors", 1) in listener.tasks


def test_two_processes_give_the_results_of_one(data: Folders, tmp_path: Path) -> None:
    evaluated(data, tmp_path / "one")
    evaluated(data, tmp_path / "two", QUICK.model_copy(update={"jobs": 2}))

    def outcomes(output: Path) -> list[tuple[object, object]]:
        contents = [json.loads(content) for content in stored(output).values()]
        return sorted((content["cell"]["material"], content["curve"]) for content in contents)

    assert outcomes(tmp_path / "one") == outcomes(tmp_path / "two")


def test_a_release_in_which_nothing_changed_is_refused(data: Folders, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing was changed"):
        evaluate(data.originals, data.originals, data.test, tmp_path / "report", QUICK)


def test_a_report_inside_a_dataset_is_refused(data: Folders) -> None:
    for place in (data.originals, data.released / CLASSES[0], data.test):
        with pytest.raises(InvalidInput, match="lies inside of"):
            evaluated(data, place / "report")
        assert not (place / "report").exists()


def test_a_released_image_that_cannot_be_read_is_named(data: Folders, tmp_path: Path) -> None:
    (data.released / CLASSES[1] / "001.png").write_bytes(b"\x89PNG and nothing more")
    with pytest.raises(InvalidInput, match=r"down/001\.png cannot be read"):
        evaluated(data, tmp_path / "report")


def test_a_training_that_fails_does_not_cost_the_others(
    data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = Harness.run

    def failing(harness: Harness, cell: Cell) -> CellResult:
        if cell.material == "noise":
            msg = "out of memory"
            raise RuntimeError(msg)
        return ran(harness, cell)

    monkeypatch.setattr(Harness, "run", failing)
    with pytest.raises(RunStopped, match=r"1 of 3 trainings failed; noise, .*, seed 0: RuntimeError: out of"):
        evaluated(data, tmp_path / "report")
    assert len(stored(tmp_path / "report")) == 2


def test_foreign_files_in_the_output_are_kept(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidInput, match=r"thesis\.tex"):
        evaluated(data, output)
    assert (output / "thesis.tex").read_text() == "years of work"


def test_a_report_that_a_kill_left_half_written_is_replaced(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    output.mkdir()
    partial_of(output / "index.html").write_text("<html>half")
    evaluated(data, output)
    assert not list(output.glob(".*.partial"))


def test_one_evaluation_at_a_time_writes_to_a_folder(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    output.mkdir()
    with FileLock(output / ".lock"), pytest.raises(InvalidInput, match="another evaluation"):
        evaluated(data, output)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"countermeasures": ("jepg-10",)}, "jpeg-10"),
        ({"networks": ("resnet99",)}, "unknown architecture 'resnet99'"),
        ({"networks": ("resnet9", "resnet9")}, "each network is trained once"),
        ({"device": "cuda:7"}, "not present"),
        ({"device": "cpu,cpu"}, "as many jobs"),
        ({"lpips": "absent.safetensors"}, "absent.safetensors"),
        ({"countermeasures": ("dilution-4000",)}, "4000 clean images"),
        ({"trained": "head", "networks": ("resnet9",)}, "resnet9 is not pretrained"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_trained(
    data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], said: str
) -> None:
    monkeypatch.setattr(Workers, "run", None)
    with pytest.raises(InvalidInput, match=said):
        evaluated(data, tmp_path / "report", QUICK.model_copy(update=settings))


def test_what_a_suite_lacks_is_left_out_and_said(
    data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "cells_of", lambda *_: [Cell(m, c, TINY, 0) for m, c in TRIED])
    evaluation = evaluated(data, tmp_path / "report")
    assert [attempt.countermeasure for attempt in evaluation.attempts] == ["none", "none"]
    assert any("dilution-4000" in caveat for caveat in evaluation.verdict.caveats)


TRIED = [("original", "none"), ("released", "none"), ("released", "dilution-4000")]


def test_a_test_set_with_training_images_is_refused(data: Folders, tmp_path: Path) -> None:
    (data.test / CLASSES[0] / "x.png").write_bytes((data.originals / CLASSES[0] / "000.png").read_bytes())
    with pytest.raises(InvalidInput, match="would lie"):
        evaluated(data, tmp_path / "report")
