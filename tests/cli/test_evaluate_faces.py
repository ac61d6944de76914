"""`withhold evaluate --task faces`, as a user runs it."""

import json
from pathlib import Path

import pytest
from tests.evaluation.faces.people import PEOPLE, PICTURES, TINY, Folders, folders, name, write
from typer.testing import CliRunner, Result

from withhold.cli.main import app
from withhold.evaluation.faces import run as faces
from withhold.evaluation.faces.settings import FaceSettings
from withhold.evaluation.jobs import Workers

FEW = ("--task", "faces", "--suite", "quick", "--epochs", "1", "--network", TINY, "--device", "cpu")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Folders:
    return folders(tmp_path)


def evaluate(data: Folders, output: Path, *further: object, few: tuple[str, ...] = FEW) -> Result:
    return invoke("evaluate", data.originals, data.released, "--test", data.test, "-o", output, *few, *further)


def test_a_release_of_faces_is_evaluated(data: Folders, tmp_path: Path) -> None:
    stronger = write(tmp_path / "stronger", range(PEOPLE), range(PICTURES), 16)
    result = evaluate(data, tmp_path / "report", "--pairs", data.pairs, "--also", stronger, "--distractors", 5)
    assert result.exit_code == 0, result.output
    for words in ("scenario", "alone", "stranger", "noise", "released", "is no cloak", f"{tmp_path}/report/index.html"):
        assert words in result.stdout
    assert "8 trainings" in result.stderr
    assert (tmp_path / "report" / "index.html").is_file()


def test_the_numbers_as_json(data: Folders, tmp_path: Path) -> None:
    result = evaluate(data, tmp_path / "report", "--pairs", data.pairs, "--scenarios", "untrained", "--json", "-q")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [attempt["scenario"] for attempt in document["attempts"]] == ["untrained", "untrained"]
    assert document["attempts"][0]["accuracy"]["count"] == 1
    assert document == json.loads((tmp_path / "report" / "results.json").read_text())


def test_the_same_settings_from_a_file(data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[FaceSettings] = []

    def remember(*given: object, **_: object) -> None:
        asked.append(given[4])  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(faces, "evaluate_faces", remember)
    config = tmp_path / "withhold.toml"
    config.write_text(
        '[evaluate]\ntask = "faces"\nseeds = 2\nold-share = 50\n'
        'heads = ["arcface", "softmax"]\ndistractors = [20, 10]\n'
    )
    assert evaluate(data, tmp_path / "report", "--config", config, "--seeds", 3, few=()).exit_code == 130
    (settings,) = asked
    assert settings == FaceSettings(heads=("arcface", "softmax"), old_share=50, distractors=(10, 20), seeds=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--countermeasures", "jpeg-10"), "--countermeasures belongs to --task classification"),
        (("--recipe", "reference"), "--recipe belongs to --task classification"),
        (("--clean", "own"), "--clean belongs to --task classification"),
        (("--suite", "full"), "--suite: Input should be 'quick' or 'standard', got 'full'"),
        (("--heads", "sphereface"), "'softmax', 'cosface' or 'arcface', got 'sphereface'"),
        (("--scenarios", "cloak"), "no scenario 'cloak'"),
        (("--distractors", "0"), "each number of distractors must be 1 or more"),
        (("--old-share", "100"), "less than or equal to 99"),
        (("--pairs", "absent.csv"), "absent.csv"),
        (("--others", "absent"), "absent"),
        (("--extractor", "absent.onnx"), "absent.onnx"),
        (("--also", "absent"), "absent"),
    ],
)
def test_bad_options_end_with_a_sentence_and_exit_code_2(
    data: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(Workers, "run", None)
    result = evaluate(data, tmp_path / "report", *options)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.splitlines()[-1].startswith("withhold: ")
    assert said in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--scenarios", "alone"),
        ("--heads", "softmax"),
        ("--pairs", "pairs.csv"),
        ("--others", "x"),
        ("--extractor", "x"),
        ("--also", "x"),
    ],
)
def test_options_of_faces_are_refused_for_classes(data: Folders, tmp_path: Path, options: tuple[str, ...]) -> None:
    result = evaluate(data, tmp_path / "report", *options, few=())
    assert result.exit_code == 2
    assert result.stderr == (
        f"withhold: {options[0]} belongs to --task faces, and this is --task classification; leave it out\n"
    )


def test_keys_of_another_task_and_unknown_tasks_are_refused(data: Folders, tmp_path: Path) -> None:
    config = tmp_path / "withhold.toml"
    for text, said in (
        ('[evaluate]\ntask = "faces"\ntrained = "head"\n', f"trained in {config} belongs to --task classification"),
        ("[evaluate]\nold-share = 30\n", f"old_share in {config} belongs to --task faces"),
        ('[evaluate]\ntask = "voices"\n', "expected one of classification, faces, got 'voices'"),
        ('[evaluate]\nscenario = "alone"\n', "the nearest that exists is 'scenarios'"),
    ):
        config.write_text(text)
        result = evaluate(data, tmp_path / "report", "--config", config, few=())
        assert result.exit_code == 2
        assert said in result.stderr


def test_the_command_line_may_name_another_task_than_the_file(data: Folders, tmp_path: Path) -> None:
    config = tmp_path / "withhold.toml"
    config.write_text('[evaluate]\ntask = "classification"\nseeds = 1\n')
    result = evaluate(data, tmp_path / "report", "--config", config, "--scenarios", "untrained", "--pairs", data.pairs)
    assert result.exit_code == 0, result.output


def test_a_person_with_a_single_picture_ends_with_exit_code_2(data: Folders, tmp_path: Path) -> None:
    for folder in (data.originals, data.released):
        for number in range(1, PICTURES):
            (folder / name(3) / f"{number}.png").unlink()
    result = evaluate(data, tmp_path / "report")
    assert result.exit_code == 2
    assert "person-03" in result.stderr


def test_help_shows_every_setting_of_faces_and_its_default() -> None:
    shown = " ".join(CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "300"}).stdout.split())
    for field in FaceSettings.model_fields:
        assert f"--{field.replace('_', '-')} " in shown
    for default in ("[default: 20]", "[default: 100, 300, 700]", "<classification|faces>", "<quick|standard|full>"):
        assert default in shown
