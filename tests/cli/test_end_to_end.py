"""The commands together, as a user runs them, on a set of a few tiny images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from withhold.cli.main import app

FEW = ("--steps", "2", "--epochs", "1", "--device", "cpu")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, base in (("dark", 40), ("light", 180)):
        for index in range(4):
            path = tmp_path / "photos" / label / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(base, base + 40, (16, 16, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def released(photos: Path) -> Path:
    destination = photos.with_name("released")
    assert invoke("protect", photos, destination, *FEW, "-q").exit_code == 0
    return destination


def test_protect_then_verify(photos: Path, tmp_path: Path) -> None:
    protected = invoke("protect", photos, tmp_path / "released", *FEW, "--json")
    assert protected.exit_code == 0, protected.output
    document = json.loads(protected.stdout)
    assert (document["images"], document["classes"], document["crafted"]) == (8, 2, 8)
    assert "Training the surrogate" in protected.stderr
    verified = invoke("verify", photos, tmp_path / "released", "--json")
    assert verified.exit_code == 0
    assert json.loads(verified.stdout)["checked"] == 8
    assert 0 < json.loads(verified.stdout)["largest_change"] <= 8


def test_verify_names_what_was_tampered_with(photos: Path, released: Path) -> None:
    (released / "dark/0.png").unlink()
    Image.new("RGB", (16, 16)).save(released / "light/1.png")
    verified = invoke("verify", photos, released)
    assert verified.exit_code == 1
    assert "dark/0.png: is missing from the release\n" in verified.stdout
    assert "light/1.png: changed by " in verified.stdout


def test_show_at_several_strengths(photos: Path, released: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.png"
    result = invoke("show", photos, released, "-o", output, "--count", 2, "--eps", "4/255,16/255")
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.output
    with Image.open(output) as sheet:
        assert sheet.width > 7 * 256


def test_strengths_need_the_private_folder(photos: Path, released: Path, tmp_path: Path) -> None:
    (tmp_path / "released.withhold").rename(tmp_path / "elsewhere")
    result = invoke("show", photos, released, "-o", tmp_path / "x.png", "--eps", "4/255")
    assert result.exit_code == 2
    assert "leave out --eps" in result.stderr


def test_a_dry_run_plans_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    planned = invoke("protect", photos, tmp_path / "released", *FEW, "--dry-run")
    assert planned.exit_code == 0, planned.output
    for words in ("8 images in 2 classes", "Crafting: about ", "Nothing was written"):
        assert words in planned.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    document = json.loads(invoke("protect", photos, tmp_path / "released", *FEW, "--dry-run", "--json").stdout)
    assert document["images"] == 8


def test_the_same_settings_from_a_file(photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "withhold.toml"
    config.write_text('[protect]\nsteps = 2\nepochs = 1\ndevice = "cpu"\neps = "4/255"\n', encoding="utf-8")
    assert invoke("protect", photos, tmp_path / "released", "--config", config, "-q").exit_code == 0
    assert json.loads((tmp_path / "released/release.json").read_text())["eps"] == "4/255"


@pytest.mark.parametrize("destination", ["photos", "photos/inside"])
def test_a_destination_inside_the_source_is_refused(photos: Path, tmp_path: Path, destination: str) -> None:
    before = sorted(photos.rglob("*"))
    result = invoke("protect", photos, tmp_path / destination, *FEW)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("withhold: ")
    assert sorted(photos.rglob("*")) == before


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    for arguments in (("protect", tmp_path / "a", tmp_path / "b"), ("verify", tmp_path / "a", tmp_path / "b")):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert str(tmp_path / "a") in result.stderr.replace("\n", "")
