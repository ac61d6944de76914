import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from withhold.cli.main import app

ENV = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


def serve(*arguments: object) -> tuple[int, str]:
    result = CliRunner(env=ENV).invoke(app, ["serve", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_folder_that_is_no_protector_is_refused(tmp_path: Path) -> None:
    code, output = serve(tmp_path / "none", "--port", "0")
    assert code == 2
    assert "is no protector" in output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--port", 70_000, "--port"), ("--max-queue", 0, "--max-queue"), ("--job-hours", 0, "--job-hours")],
)
def test_settings_that_make_no_sense_are_refused_by_their_name(
    tmp_path: Path, option: str, value: int, said: str
) -> None:
    code, output = serve(tmp_path, option, value)
    assert code == 2
    assert said in output
    assert str(value) in output


def test_settings_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text("[serve]\nmax-quue = 3\n")
    code, output = serve(tmp_path, "--config", tmp_path / "serve.toml")
    assert code == 2
    assert "'max_queue'" in output


def test_a_lacking_extra_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.import_module

    def lacking(name: str) -> object:
        if name == "fastapi_offline":
            raise ModuleNotFoundError(name=name)
        return found(name)

    monkeypatch.setattr(importlib, "import_module", lacking)
    code, output = serve(tmp_path)
    assert code == 2
    assert "fastapi_offline, which is not installed" in output
    assert "pip install 'withhold[serve]'" in output
