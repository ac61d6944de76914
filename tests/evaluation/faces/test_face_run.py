import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.evaluation.faces.people import (
    PEOPLE,
    PICTURES,
    SIDE,
    TINY,
    Folders,
    changed,
    folders,
    name,
    picture,
    save,
    write,
)
from tests.release.fakes import Listener

from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation.faces import run
from withhold.evaluation.faces.elsewhere import Given
from withhold.evaluation.faces.harness import FaceHarness, Pretrainer
from withhold.evaluation.faces.results import FaceCell, FaceEvaluation, FaceResult
from withhold.evaluation.faces.run import evaluate_faces
from withhold.evaluation.faces.settings import FaceSettings
from withhold.evaluation.jobs import Workers
from withhold.progress import SILENT, Reporter

QUICK = FaceSettings(suite="quick", epochs=1, network=TINY, device="cpu", distractors=(5,), pictures=2)
JUDGE = "tests.evaluation.faces.people:judge"


@pytest.fixture
def data(tmp_path: Path) -> Folders:
    return folders(tmp_path)


def evaluated(
    data: Folders,
    output: Path,
    settings: FaceSettings = QUICK,
    reporter: Reporter = SILENT,
    **given: Any,  # noqa: ANN401 - whatever is given besides
) -> FaceEvaluation:
    options: dict[str, Any] = {"pairs": data.pairs, **given}
    return evaluate_faces(data.originals, data.released, data.test, output, settings, reporter=reporter, **options)


def stored(output: Path, folder: str = "cells") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / folder).iterdir())}


def settings(**changes: object) -> FaceSettings:
    return FaceSettings(**{**QUICK.model_dump(), **changes})


def test_an_evaluation_writes_page_numbers_and_one_file_for_each_competitor(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    evaluation = evaluated(data, output)
    assert {path.name for path in output.iterdir()} >= {"index.html", "results.json", "results.csv", "cells"}
    assert [(each.scenario, each.material) for each in evaluation.attempts] == [
        *(("alone", material) for material in ("original", "noise", "released")),
        *(("untrained", material) for material in ("original", "released")),
        *(("stranger", material) for material in ("original", "noise", "released")),
    ]
    assert len(stored(output)) == 8
    assert len(stored(output, "pretrained")) == 1
    document = json.loads((output / "results.json").read_text())
    assert document["verdict"]["sentence"] == evaluation.verdict.sentence
    assert document["settings"]["task"] == "faces"
    assert document["data"]["largest change in levels"] == 8
    assert document["attempts"][0]["results"][0]["identification"]["probes"] == 24
    assert [finding["scenario"] for finding in document["verdict"]["findings"]] == ["alone", "stranger"]


def test_the_table_has_a_row_for_each_competitor(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    evaluation = evaluated(data, output, settings(seeds=2, scenarios=("alone", "stranger")))
    rows = list(csv.DictReader(io.StringIO((output / "results.csv").read_text())))
    assert len(rows) == 12
    first = evaluation.attempts[0].results[0]
    assert first.identification is not None
    assert first.verification is not None
    assert rows[0]["scenario"] == "alone"
    assert float(rows[0]["rank1"]) == first.identification.rank1
    assert float(rows[0]["rank1_among_24"]) == dict(first.identification.crowd)[24]
    assert float(rows[0]["tar_at_far_0.1"]) == first.verification.accepts[0].tar
    assert float(rows[0]["accuracy"]) == first.verification.accuracy
    stranger = next(row for row in rows if row["scenario"] == "stranger")
    assert (stranger["best_head"], stranger["diverged"], stranger["identities"]) == ("", "", "4")


def test_every_scenario_of_the_standard_suite_is_tried(data: Folders, tmp_path: Path) -> None:
    evaluation = evaluated(data, tmp_path / "report", settings(suite="standard"))
    tried = [(each.scenario, each.material, each.head) for each in evaluation.attempts]
    assert len(tried) == len(set(tried)) == 3 * 3 + 2 + 5 * 3 + 1
    assert {head for scenario, _, head in tried if scenario == "alone"} == {"softmax", "cosface", "arcface"}
    assert [each.scenario for each in evaluation.verdict.findings] == [
        "alone",
        "mixed",
        "fine-tuned",
        "old-releases",
        "immune",
        "stranger",
    ]


def test_a_second_call_trains_nothing_and_a_larger_one_only_what_is_missing(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    evaluated(data, output)
    before, weights = stored(output), stored(output, "pretrained")
    listener = Listener()
    evaluated(data, output, reporter=listener)
    assert (stored(output), stored(output, "pretrained")) == (before, weights)
    assert not {"Training competitors", "Training on other people"} & {task for task, _ in listener.tasks}
    evaluated(data, output, settings(scenarios=("alone", "stranger", "fine-tuned")), listener)
    assert ("Training competitors", 3) in listener.tasks
    assert "Training on other people" not in [task for task, _ in listener.tasks]
    assert {name: content for name, content in stored(output).items() if name in before} == before


def test_a_killed_evaluation_goes_on_with_what_is_missing_and_ends_the_same(
    data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, ran = tmp_path / "report", FaceHarness.run
    wanted = settings(scenarios=("alone", "stranger"))

    def interrupted(harness: FaceHarness, cell: FaceCell) -> FaceResult:
        if cell.scenario == "stranger" and cell.material == "noise":
            raise KeyboardInterrupt
        return ran(harness, cell)

    monkeypatch.setattr(FaceHarness, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluated(data, output, wanted)
    weights = stored(output, "pretrained")
    assert (len(stored(output)), len(weights)) == (4, 1)
    monkeypatch.setattr(FaceHarness, "run", ran)
    listener = Listener()
    evaluated(data, output, wanted, listener)
    assert ("Training competitors", 2) in listener.tasks
    assert "Training on other people" not in [task for task, _ in listener.tasks]
    whole = tmp_path / "whole"
    evaluated(data, whole, wanted)
    assert stored(whole, "pretrained") == weights
    assert outcomes(whole) == outcomes(output)


def outcomes(output: Path) -> dict[str, object]:
    contents = {name: json.loads(content) for name, content in stored(output).items()}
    return {name: {key: value for key, value in each.items() if key != "seconds"} for name, each in contents.items()}


def test_a_kill_while_others_are_learnt_from_keeps_what_was_learnt(
    data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, ran = tmp_path / "report", Pretrainer.run
    learnt: list[object] = []
    wanted = settings(scenarios=("fine-tuned", "immune"))

    def interrupted(trainer: Pretrainer, task: object) -> Path:
        if learnt:
            raise KeyboardInterrupt
        learnt.append(task)
        return ran(trainer, task)  # type: ignore[arg-type]

    monkeypatch.setattr(Pretrainer, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluated(data, output, wanted)
    assert len(stored(output, "pretrained")) == 1
    monkeypatch.setattr(Pretrainer, "run", ran)
    listener = Listener()
    evaluated(data, output, wanted, listener)
    assert ("Training on other people", 1) in listener.tasks


def test_two_processes_give_the_results_of_one(data: Folders, tmp_path: Path) -> None:
    wanted = settings(scenarios=("alone", "fine-tuned"))
    evaluated(data, tmp_path / "one", wanted)
    evaluated(data, tmp_path / "two", wanted.model_copy(update={"jobs": 2}))
    one, two = (
        {name: (each["curve"], each["identification"]) for name, each in found.items()}  # type: ignore[index]
        for found in (outcomes(tmp_path / "one"), outcomes(tmp_path / "two"))
    )
    assert one == two


def test_a_given_recogniser_is_a_stranger_once_and_needs_no_other_people(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    wanted = settings(seeds=2, scenarios=("stranger", "fine-tuned"))
    evaluation = evaluated(data, output, wanted, extractor=JUDGE)
    strangers = [each for each in evaluation.attempts if each.scenario == "stranger"]
    assert [(each.head, each.network, len(each.results)) for each in strangers] == [("given", JUDGE, 1)] * 3
    assert all(each.identities == PEOPLE for each in evaluation.attempts)
    assert not (output / "pretrained").exists()
    best = strangers[0].rank1
    assert best is not None
    assert best.mean >= 0.9


def test_our_own_weights_are_a_recogniser_from_elsewhere(data: Folders, tmp_path: Path) -> None:
    wanted = settings(network="iresnet10-narrow", scenarios=("fine-tuned", "stranger"))
    evaluated(data, tmp_path / "first", wanted)
    (weights,) = (tmp_path / "first" / "pretrained").iterdir()
    evaluation = evaluated(data, tmp_path / "second", wanted, extractor=str(weights))
    assert {each.network for each in evaluation.attempts} == {weights.name}


def test_other_people_who_are_given_leave_everyone_to_be_looked_up(data: Folders, tmp_path: Path) -> None:
    others = write(tmp_path / "others", range(40, 44), range(4))
    wanted = settings(scenarios=("mixed", "fine-tuned", "immune"))
    evaluation = evaluated(data, tmp_path / "report", wanted, others=others)
    people = {each.scenario: each.identities for each in evaluation.attempts}
    assert people == {"mixed": PEOPLE, "fine-tuned": PEOPLE, "immune": PEOPLE // 2}


def test_the_sheet_shows_each_person_in_every_release_with_its_measured_change(data: Folders, tmp_path: Path) -> None:
    stronger = write(tmp_path / "stronger", range(PEOPLE), range(PICTURES), 16)
    evaluation = evaluated(data, tmp_path / "report", settings(pictures=3), also=[stronger])
    assert len({person.identity for person in evaluation.pictures}) == 3
    for person in evaluation.pictures:
        assert [(each.release, each.largest) for each in person.versions] == [("released", 8), ("stronger", 16)]
        identity, number = person.name.split("/")
        before = picture(int(identity.removeprefix("person-")), int(number.removesuffix(".png")))
        shown = [np.asarray(Image.open(io.BytesIO(png))) for png in (person.original, person.versions[1].picture)]
        assert np.array_equal(shown[0], before)
        assert np.array_equal(shown[1], changed(before, 16))


def test_another_release_of_other_originals_is_refused(data: Folders, tmp_path: Path) -> None:
    for place in (write(tmp_path / "fewer", range(PEOPLE), range(2), 16), data.pairs.parent / "absent"):
        with pytest.raises(InvalidInput):
            evaluated(data, tmp_path / "report", also=[place])


def test_of_too_few_people_none_stand_for_others(tmp_path: Path) -> None:
    data = folders(tmp_path, people=3)
    evaluation = evaluated(data, tmp_path / "report")
    assert {each.scenario for each in evaluation.attempts} == {"alone", "untrained"}
    assert any("stranger (half of the 3 people" in caveat for caveat in evaluation.verdict.caveats)
    with pytest.raises(InvalidInput, match=r"cannot try immune: half of the 3 people stand for others"):
        evaluated(data, tmp_path / "other", settings(scenarios=("immune",)))


def test_without_pairs_what_they_measure_is_left_out_and_said(data: Folders, tmp_path: Path) -> None:
    evaluation = evaluated(data, tmp_path / "report", pairs=None)
    assert evaluation.attempts[0].accuracy is None
    assert any("Without pairs" in caveat for caveat in evaluation.verdict.caveats)


def test_heads_without_their_package_are_left_out_and_said(
    data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    evaluation = evaluated(data, tmp_path / "report", settings(suite="standard", scenarios=("alone",)))
    assert {each.head for each in evaluation.attempts} == {"softmax"}
    assert any("withhold[faces]" in caveat for caveat in evaluation.verdict.caveats)


def test_weights_that_a_crash_damaged_are_named(data: Folders, tmp_path: Path) -> None:
    output = tmp_path / "report"
    evaluated(data, output)
    (weights,) = (output / "pretrained").iterdir()
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunStopped, match=r"others\.softmax.*\.safetensors is not a complete"):
        evaluated(data, output, settings(scenarios=("fine-tuned",)))


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be trained."""
    monkeypatch.setattr(Workers, "run", None)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scenarios": ("alnoe",)}, r"no scenario 'alnoe'; the nearest is 'alone'. There are alone, untrained, mixed,"),
        ({"scenarios": ("alone", "alone")}, "each scenario is tried once"),
        ({"heads": ("softmax", "softmax")}, "each head is tried once"),
        ({"network": "iresnet99"}, "unknown architecture 'iresnet99'"),
        ({"network": "vit", "input_size": 20}, "multiple of 8; got 20"),
        ({"device": "cuda:7"}, "not present"),
        ({"lpips": "absent.safetensors"}, r"absent\.safetensors"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_trained(
    data: Folders, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        evaluated(data, tmp_path / "report", settings(**changes))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("extractor", "said"),
    [
        ("tests.evaluation.faces.people:blind", "not finite"),
        ("tests.evaluation.faces.people:absent", "cannot import"),
        ("absent.safetensors", r"absent\.safetensors"),
        ("absent.onnx", r"absent\.onnx"),
    ],
)
def test_a_recogniser_that_cannot_be_used_is_refused(data: Folders, tmp_path: Path, extractor: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        evaluated(data, tmp_path / "report", extractor=extractor)


@pytest.mark.usefixtures("untouched")
def test_a_recogniser_is_tried_on_every_picture_before_anything_is_trained(data: Folders, tmp_path: Path) -> None:
    last = sorted(data.test.rglob("*.png"))[-1]
    save(last, np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(InvalidInput, match=r"1 of .* embeddings that are not finite"):
        evaluated(data, tmp_path / "report", extractor="tests.evaluation.faces.people:blind_in_the_dark")


def test_a_recogniser_is_known_by_what_it_does() -> None:
    given = Given(JUDGE, SIDE)
    embeddings = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert given.digest(embeddings) == given.digest(embeddings.clone())
    assert given.digest(embeddings) != given.digest(-embeddings)


@pytest.mark.usefixtures("untouched")
def test_another_release_of_another_size_is_refused_before_anything_is_trained(data: Folders, tmp_path: Path) -> None:
    also = tmp_path / "smaller"
    for path in data.released.rglob("*.png"):
        with Image.open(path) as image:
            save(also / path.relative_to(data.released), np.asarray(image)[:-1])
    with pytest.raises(InvalidInput):
        evaluated(data, tmp_path / "report", also=[also])


@pytest.mark.usefixtures("untouched")
def test_a_refused_evaluation_leaves_nothing_behind(data: Folders, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        evaluated(data, tmp_path / "report", settings(scenarios=("alnoe",)))
    assert not (tmp_path / "report").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(InvalidInput):
        evaluated(data, tmp_path / "mine", settings(scenarios=("alnoe",)))
    assert (tmp_path / "mine").is_dir()


@pytest.mark.usefixtures("untouched")
def test_one_that_can_only_score_is_not_fine_tuned(data: Folders, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot try fine-tuned: net\.onnx can only score"):
        evaluated(data, tmp_path / "report", settings(scenarios=("fine-tuned",)), extractor="net.onnx")


@pytest.mark.usefixtures("untouched")
def test_bad_data_is_refused_before_anything_is_trained(data: Folders, tmp_path: Path) -> None:
    def refused(said: str) -> None:
        with pytest.raises(InvalidInput, match=said):
            evaluated(data, tmp_path / "report")

    kept = data.pairs.parent / "pairs" / "104-1.png"
    kept.rename(tmp_path / "away.png")
    refused(r"1 of 24 pictures .* are missing in .*: 104-1\.png")
    (tmp_path / "away.png").rename(kept)
    test = data.test / name(2)
    test.rename(tmp_path / "away")
    refused("person-02")
    (tmp_path / "away").rename(test)
    for folder in (data.originals, data.released):
        for number in range(1, PICTURES):
            (folder / name(0) / f"{number}.png").rename(tmp_path / f"{folder.name}-{number}.png")
    refused(r"1 people of the originals have fewer than 2 pictures, such as person-00")
    for folder in (data.originals, data.released):
        for number in range(1, PICTURES):
            (tmp_path / f"{folder.name}-{number}.png").rename(folder / name(0) / f"{number}.png")
    save(data.test / name(1) / "x.png", picture(1, 0))
    refused("also in the training set")
    save(data.test / name(1) / "x.png", picture(1, 90, side=2 * SIDE))
    refused("squares of one size")


@pytest.mark.usefixtures("untouched")
def test_a_release_in_which_nothing_changed_is_refused(data: Folders, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing was changed"):
        evaluate_faces(data.originals, data.originals, data.test, tmp_path / "report", QUICK)


def test_a_report_inside_a_dataset_is_refused(data: Folders, tmp_path: Path) -> None:
    others = write(tmp_path / "others", range(40, 42), range(3))
    for place in (data.originals, data.test, others):
        with pytest.raises(InvalidInput, match="lies inside of"):
            evaluated(data, place / "report", others=others)
