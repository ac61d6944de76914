"""`withhold watch`, as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.online.protectors import tiny
from tests.online.watch.inboxes import fill, leftovers, places, png, put, tree
from typer.testing import CliRunner, Result

from withhold.cli.main import app
from withhold.online.ledger import Ledger, default_url
from withhold.online.protector import Protector
from withhold.online.watch.journal import Journal

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-c", "from withhold.cli.main import main; main()", "watch")
PATIENCE = 120.0


@contextmanager
def watching(root: Path, protector: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Have a watch that has begun."""
    (root / "inbox").mkdir(exist_ok=True)
    given = [str(root / "inbox"), str(root / "outbox"), "--protector", str(protector), *options]
    process = subprocess.Popen(
        [*COMMAND, *given],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        begun = process.stderr.readline()
        assert begun.startswith("Watching "), begun + process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def until_crafting(root: Path, process: "subprocess.Popen[str]", starts: int) -> None:
    """Wait until an image is worked on by so many watches, one after the other."""
    deadline = time.monotonic() + PATIENCE
    place = places(root)
    while [record.starts for record in Journal(place.journal, place.staging).records()] != [starts]:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing was begun"
        time.sleep(0.01)


def line(process: "subprocess.Popen[str]") -> dict[str, object]:
    assert process.stdout is not None
    parsed: dict[str, object] = json.loads(process.stdout.readline())
    return parsed


def test_images_are_protected_as_they_arrive_until_the_watch_is_to_end(
    tmp_path: Path, folder: Path, protector: Protector
) -> None:
    with watching(tmp_path, folder, "--json", "--settle", "0.05") as process:
        hidden = put(tmp_path / "inbox/cat/.a.png", png(1))
        hidden.rename(tmp_path / "inbox/cat/a.png")
        first = line(process)
        assert (first["name"], first["released"], first["label"]) == ("cat/a.png", "cat/a.png", "cat")
        with (tmp_path / "inbox/slow.png").open("wb") as slow:  # this process has it open: it is not whole
            slow.write(png(2)[:100])
            slow.flush()
            os.utime(tmp_path / "inbox/slow.png", (1, 1))  # the oldest comes first, were it taken
            fill(tmp_path / "inbox", bad_png=b"bad")
            assert line(process)["name"] == "bad.png"
            slow.write(png(2)[100:])
        assert line(process)["name"] == "slow.png"
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, "", "2 images protected, 1 files rejected.\n")
    expected = {"cat/a.png": protector.protect(png(1), "cat").content, "slow.png": protector.protect(png(2)).content}
    assert tree(tmp_path / "outbox") == expected
    assert tree(tmp_path / "inbox") == {}
    assert leftovers(places(tmp_path)) == []


def test_a_watch_that_is_killed_or_interrupted_while_it_crafts_is_made_up_for(tmp_path: Path) -> None:
    long = tiny(tmp_path / "long", steps=10**6)
    fill(tmp_path / "inbox", cat__a_png=png(1))
    for starts, way in ((1, signal.SIGKILL), (2, signal.SIGINT)):
        with watching(tmp_path, long, "--settle", "0.01") as process:
            until_crafting(tmp_path, process, starts)
            process.send_signal(way)
            if way == signal.SIGINT:
                assert process.stderr is not None
                assert process.stderr.readline().startswith("Finishing the images at hand")
                process.send_signal(way)  # a second time: at once
            assert ended(process)[0] == (-signal.SIGKILL if way == signal.SIGKILL else 130)
        assert tree(tmp_path / "inbox") == {"cat/a.png": png(1)}
        assert tree(tmp_path / "outbox") == {}
    short = tiny(tmp_path / "short")
    result = invoke(tmp_path, short, "--once", "--settle", "0.01")
    assert result.exit_code == 0, result.output
    assert tree(tmp_path / "outbox") == {"cat/a.png": Protector.load(short).protect(png(1), "cat").content}
    assert tree(tmp_path / "inbox/.withhold/done") == {"cat/a.png": png(1)}
    assert leftovers(places(tmp_path)) == []


def invoke(root: Path, protector: Path, *options: str) -> Result:
    (root / "inbox").mkdir(exist_ok=True)
    given = ("watch", str(root / "inbox"), str(root / "outbox"), "--protector", str(protector), *options)
    return CliRunner().invoke(app, given)


def test_what_became_of_each_file_is_printed(tmp_path: Path, folder: Path) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1), b_png=png(2), bad_png=b"bad")
    result = invoke(tmp_path, folder, "--once", "--settle", "0.01", "--speed", "quick")
    assert result.exit_code == 0, result.output
    lines = sorted(result.stdout.splitlines())
    assert lines[0].startswith("b.png -> b.png (taken for ")
    assert lines[1].startswith("bad.png rejected: not an image of a known kind (3 bytes)")
    assert lines[2].startswith("cat/a.png -> cat/a.png (cat, quick, largest change ")
    assert result.stderr.endswith("2 images protected, 1 files rejected.\n")


def test_settings_from_a_file(tmp_path: Path, folder: Path) -> None:
    config = put(tmp_path / "withhold.toml", b'[watch]\nsettle = 0.01\noriginals = "delete"\nspeed = "instant"\n')
    fill(tmp_path / "inbox", cat__a_png=png(1))
    result = invoke(tmp_path, folder, "--once", "--config", str(config), "--json")
    assert json.loads(result.stdout)["speed"] == "instant"
    assert tree(tmp_path / "inbox/.withhold") == {"lock": b"", "rejected/.withhold/lock": b""}


def test_releases_are_entered_in_a_ledger_once(tmp_path: Path) -> None:
    protector = tiny(tmp_path / "protector")
    ledger = Ledger.open(default_url(protector))
    ledger.add_client("album", pairs=2)
    options = ("--once", "--settle", "0.01", "--client", "album")
    fill(tmp_path / "inbox", cat__a_png=png(1), bad_png=b"bad")
    assert invoke(tmp_path, protector, *options).exit_code == 0
    fill(tmp_path / "inbox", cat__a_png=png(1), b_png=png(2))
    assert invoke(tmp_path, protector, *options).exit_code == 0
    rows = list(ledger.entries())
    assert len(rows) == 2
    assert {(row.client, row.label_was_given, row.eps) for row in rows} == {("album", True, 8), ("album", False, 8)}
    fill(tmp_path / "inbox", c_png=png(3))
    full = invoke(tmp_path, protector, *options)
    assert full.exit_code == 0
    assert "Images wait in the inbox: the limit is 2 pairs" in full.stderr
    assert list(tree(tmp_path / "inbox")) == ["c.png"]
    ledger.close()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--ledger", "sqlite:///x.db"), "--ledger needs to know for whom"),
        (("--client", "nobody"), "the ledger has no client 'nobody'"),
        (("--labels", "none.csv"), "cannot read the labels none.csv"),
        (("--settle", "0"), "--settle: Input should be greater than 0"),
        (("--device", "cuda:99"), "is not present"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], problem: str
) -> None:
    monkeypatch.setenv("WITHHOLD_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    result = invoke(tmp_path, folder, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


def test_folders_and_protector_are_checked(tmp_path: Path, folder: Path) -> None:
    assert "is no protector" in invoke(tmp_path, tmp_path / "none").stderr
    inside = CliRunner().invoke(
        app, ["watch", str(tmp_path / "inbox"), str(tmp_path / "inbox/out"), "--protector", str(folder)]
    )
    assert inside.exit_code == 2
    assert "must be apart" in inside.stderr


def test_without_watchfiles_only_once_works(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = invoke(tmp_path, folder)
    assert result.exit_code == 2
    assert "pip install 'withhold[serve]'" in result.stderr
    assert invoke(tmp_path, folder, "--once").exit_code == 0
