"""Files and statements of a release that concern no single pixel."""

import json
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import pytest
from tests.data.test_entries import webdataset
from tests.release.fakes import class_folders, make_uniform, settings

from withhold.cli.verify import as_text
from withhold.release.run import run
from withhold.release.verify import Offender, verify

FOREIGN = "is in the release, but is no image of it"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    source = class_folders(tmp_path / "in", 2)
    run(source, tmp_path / "out", settings(eps="16/255"), make_uniform)
    return source, tmp_path / "out"


def test_hidden_files_are_found(pair: tuple[Path, Path]) -> None:
    source, release = pair
    (release / ".originals").mkdir()
    shutil.copy(source / "cat" / "0.png", release / ".originals" / "0.png")
    shutil.copy(source / "cat" / "1.png", release / "dog" / ".1.png")
    (release / "notes.txt").write_text("")
    names = ["notes.txt", ".originals/0.png", "dog/.1.png"]
    assert verify(source, release).offenders == tuple(Offender(name, FOREIGN) for name in names)


def test_hidden_members_of_a_shard_are_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    webdataset(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out", settings(skip_unreadable=True), make_uniform)
    assert verify(tmp_path / "in", tmp_path / "out").passed
    with tarfile.open(tmp_path / "out" / "a.tar", "a") as shard:
        shard.add(tmp_path / "in" / "a.tar", ".original")
    assert verify(tmp_path / "in", tmp_path / "out").offenders == (Offender("a.tar#.original", FOREIGN),)


def test_a_large_bound_that_only_the_release_states_is_said_aloud(pair: tuple[Path, Path]) -> None:
    warning = "Warning: the bound 16/255 was taken from the release itself; give --eps to check against your own."
    stated = verify(*pair)
    assert stated.passed
    assert stated.bound_is_doubtful
    assert warning in as_text(stated).splitlines()
    given = verify(*pair, eps=Fraction(16, 255))
    assert not given.bound_is_doubtful
    assert "Warning" not in as_text(given)


def test_the_usual_bound_raises_no_doubt(pair: tuple[Path, Path]) -> None:
    content = json.loads((pair[1] / "release.json").read_bytes())
    (pair[1] / "release.json").write_text(json.dumps({**content, "eps": "8/255"}))
    assert not verify(*pair).bound_is_doubtful
