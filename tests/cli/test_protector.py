"""`withhold protect --protector`."""

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.online.protectors import CLASSES, pixels, tiny
from typer.testing import CliRunner, Result

from withhold.cli.main import app
from withhold.online.protector import Protector
from withhold.online.settings import SPEEDS, SpeedName


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(pixels(10 * index + number)).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("protector") / "tiny")


@pytest.mark.parametrize("speed", [None, *SPEEDS])
def test_a_release_holds_what_the_protector_gives(
    photos: Path, folder: Path, tmp_path: Path, speed: SpeedName | None
) -> None:
    chosen = () if speed is None else ("--speed", speed)
    result = invoke("protect", photos, tmp_path / "released", "--protector", folder, *chosen, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 6
    protector = Protector.load(folder)
    for path in photos.rglob("*.png"):
        expected = protector.protect(path, path.parent.name, speed=speed or "full")
        assert (tmp_path / "released" / path.relative_to(photos)).read_bytes() == expected.content
    verified = invoke("verify", photos, tmp_path / "released", "--json")
    assert json.loads(verified.stdout)["passed"]


def test_the_same_command_resumes_and_another_speed_does_not(photos: Path, folder: Path, tmp_path: Path) -> None:
    command = ("protect", photos, tmp_path / "released", "--protector", folder, "--json")
    assert json.loads(invoke(*command).stdout)["crafted"] == 6
    assert json.loads(invoke(*command).stdout)["crafted"] == 0
    other = invoke(*command, "--speed", "quick")
    assert (other.exit_code, other.stdout) == (2, "")


def test_a_dry_run_writes_nothing(photos: Path, folder: Path, tmp_path: Path) -> None:
    result = invoke("protect", photos, tmp_path / "released", "--protector", folder, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "6 images in 3 classes" in result.stdout
    assert "Training" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("from_file", [False, True])
def test_what_a_protector_fixes_is_refused_before_it_is_loaded(tmp_path: Path, from_file: bool) -> None:
    config = tmp_path / "withhold.toml"
    config.write_text("[protect]\nsteps = 9\n")
    given = ("--config", config) if from_file else ("--steps", "9", "--lossless", "webp")
    result = invoke("protect", tmp_path / "in", tmp_path / "out", "--protector", tmp_path / "none", *given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a protector fixes steps: leave that out" in result.stderr


@pytest.mark.parametrize(("option", "value"), [("--speed", ["quick"]), ("--allow-differences", [])])
def test_what_only_a_protector_understands_is_refused_without_one(option: str, value: list[str]) -> None:
    result = invoke("protect", "in", "out", option, *value)
    assert result.exit_code == 2
    assert f"{option} is for a protector" in result.stderr


def test_no_protector_and_an_unknown_speed_are_refused(photos: Path, tmp_path: Path) -> None:
    missing = invoke("protect", photos, tmp_path / "released", "--protector", tmp_path)
    assert missing.exit_code == 2
    assert "is no protector" in missing.stderr
    assert invoke("protect", photos, tmp_path / "released", "--protector", tmp_path, "--speed", "slow").exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_device_that_is_not_there_is_refused(photos: Path, folder: Path, tmp_path: Path) -> None:
    result = invoke("protect", photos, tmp_path / "released", "--protector", folder, "--device", "cuda:99")
    assert result.exit_code == 2
    assert "is not present" in result.stderr
