"""Where a run is worked off, as the command line says it; what cannot work is refused before any work."""

from pathlib import Path

import pytest
from tests.release.fakes import class_folders, tree
from typer.testing import CliRunner, Result

from withhold.cli.main import app

QUICK = ("--steps", "1", "--epochs", "1", "--batch-size", "4", "--architecture", "resnet9")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["protect", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--workers", "2"), "--engine ray"),
        (("--address", "auto"), "--engine ray"),
        (("--engine", "ray", "--address", "127.0.0.1:1"), "no Ray cluster at 127.0.0.1:1"),
        (("--engine", "ray", "--address", "10.0.0.1"), "HOST:PORT"),
        (("--engine", "ray", "--workers", "0"), "at least 1 worker"),
        (("--engine", "ray", "--gpus-per-worker", "1"), "not present on this machine"),
        (("--engine", "ray", "--dry-run"), "a dry run works on this machine only"),
        (("--engine", "ray", "--protector", "p"), "a protector works on this machine only"),
        (("--device", "cpu,nothing"), "unknown device 'nothing'"),
        (("--engine", "spark"), "spark"),
    ],
)
def test_what_cannot_work_is_refused_in_words(tmp_path: Path, given: tuple[str, ...], said: str) -> None:
    source = class_folders(tmp_path / "photos")
    result = invoke(source, tmp_path / "out", *QUICK, *given)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(tmp_path.glob("out*"))


def test_progress_as_lines_and_the_report_on_stdout(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "photos")
    result = invoke(source, tmp_path / "out", *QUICK, "--device", "cpu,cpu", "--progress", "json", "--json")
    assert result.exit_code == 0
    assert invoke(source, tmp_path / "one", *QUICK, "--device", "cpu", "--quiet").exit_code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "one")
    lines = result.stderr.splitlines()
    assert all(line.startswith('{"event": ') for line in lines)
    assert any('"ended", "task": "Crafting", "done": 12, "total": 12' in line for line in lines)
    assert '"crafted": 12' in result.stdout
