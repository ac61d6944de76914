"""`withhold protect --task faces` as a user runs it: aligned crops in a folder for each identity."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from withhold.cli.main import app
from withhold.networks.checkpoint import load

FEW = ("--task", "faces", "--steps", "2", "--epochs", "1", "--device", "cpu")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for identity in ("ann", "bob", "eve"):
        for index in range(3):
            path = tmp_path / "faces" / identity / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(60, 196, (32, 32, 3), np.uint8)).save(path)
    return tmp_path / "faces"


@pytest.mark.parametrize("head", ["softmax", "cosface", "arcface"])
def test_aligned_faces_are_protected_through_each_head_and_verified(faces: Path, tmp_path: Path, head: str) -> None:
    if head != "softmax":
        pytest.importorskip("pytorch_metric_learning")
    destination = tmp_path / "released"
    chosen = (*FEW, "--head", head, "--objective", "alignment")
    protected = invoke("protect", faces, destination, *chosen, "--json")
    assert protected.exit_code == 0, protected.output
    assert "the surrogate is iresnet10-narrow, which sees aligned faces of 32 x 32 whole" in " ".join(
        protected.stderr.split()
    )
    assert json.loads(protected.stdout)["quality"]["alignment"] is not None
    kept = load(tmp_path / "released.withhold/surrogate.safetensors", classes=3).networks[0]
    assert (kept.architecture, kept.head) == ("iresnet10-narrow", head)
    assert invoke("verify", faces, destination).exit_code == 0
    again = invoke("protect", faces, destination, *chosen)
    assert again.exit_code == 0
    other = invoke("protect", faces, destination, *FEW, "--objective", "alignment")
    assert other.exit_code == 2
    assert f"head was '{head}' and is now None" in " ".join(other.stderr.split())


def test_an_identity_with_a_single_picture_is_refused_before_any_work(faces: Path, tmp_path: Path) -> None:
    for index in (1, 2):
        (faces / "bob" / f"{index}.png").unlink()
    result = invoke("protect", faces, tmp_path / "released", *FEW)
    assert result.exit_code == 2
    assert "each identity needs two pictures or more, got one in 'bob'; add some, or leave it out" in " ".join(
        result.stderr.split()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


@pytest.mark.parametrize("size", [(32, 30), (48, 48)])
def test_pictures_of_mixed_sizes_are_no_aligned_faces(faces: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(faces / "eve" / "0.png")
    for extra in ((), ("--dry-run",)):
        result = invoke("protect", faces, tmp_path / "released", *FEW, *extra)
        said = " ".join(result.stderr.split())
        assert result.exit_code == 2
        assert "squares of one size, such as 112 x 112; these are " in said
        assert f"{size[0]} x {size[1]}" in said
        assert "--faces or --detector" in said
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_whole_photographs_by_a_csv(faces: Path, tmp_path: Path) -> None:
    """Each 32 x 32 picture is taken for a photograph with a face of 16 x 16 in its middle."""
    rows = [f"{path.relative_to(faces).as_posix()},8,8,24,24" for path in sorted(faces.rglob("*.png"))]
    (tmp_path / "faces.csv").write_text("\n".join(["image,x0,y0,x1,y1", *rows]), encoding="utf-8")
    chosen = (*FEW, "--faces", tmp_path / "faces.csv", "--input-size", "32")
    result = invoke("protect", faces, tmp_path / "released", *chosen)
    assert result.exit_code == 0, result.output
    moved = np.zeros((32, 32), bool)
    for path in faces.rglob("*.png"):
        pair = [Image.open(root / path.relative_to(faces)) for root in (faces, tmp_path / "released")]
        before, after = (np.asarray(image).astype(int) for image in pair)
        moved |= (before != after).any(axis=2)
    rows_, columns = np.nonzero(moved)  # the box is enlarged by a quarter, to the 20 pixels from 6 to 26
    assert (rows_.min(), rows_.max(), columns.min(), columns.max()) == (6, 25, 6, 25)


def test_a_missing_csv_and_a_contradiction_are_refused(faces: Path, tmp_path: Path) -> None:
    missing = invoke("protect", faces, tmp_path / "released", *FEW, "--faces", tmp_path / "none.csv")
    assert missing.exit_code == 2
    assert "cannot read the faces in" in missing.stderr
    without_task = invoke("protect", faces, tmp_path / "released", "--faces", tmp_path / "none.csv")
    assert without_task.exit_code == 2
    assert "give --task faces too" in without_task.stderr
