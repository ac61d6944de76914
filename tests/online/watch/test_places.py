import os
from pathlib import Path

import pytest
from filelock import FileLock
from tests.online.watch.inboxes import places, put

from withhold.errors import InvalidInput
from withhold.online.watch.places import place_watch
from withhold.online.watch.settings import WatchSettings


def test_what_is_private_stays_in_the_inbox_unless_said_otherwise(tmp_path: Path) -> None:
    usual = places(tmp_path)
    assert (usual.done, usual.rejected) == (
        tmp_path / "inbox/.withhold/done",
        tmp_path / "inbox/.withhold/rejected",
    )
    assert places(tmp_path, originals="delete").done is None
    chosen = places(tmp_path, done=tmp_path / "kept", rejected=tmp_path / "bad")
    assert (chosen.done, chosen.rejected) == (tmp_path / "kept", tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["inbox"]


@pytest.mark.parametrize(
    ("inbox", "outbox", "chosen", "problem"),
    [
        ("none", "outbox", {}, "is no folder"),
        ("file", "outbox", {}, "is no folder"),
        ("inbox", "file", {}, "outbox .* is a file"),
        ("inbox", "inbox", {}, "must be apart"),
        ("inbox", "inbox/out", {}, "must be apart"),
        ("inbox/cat", "inbox", {}, "must be apart"),
        ("inbox", "link", {}, "must be apart"),
        ("inbox", "outbox", {"done": "outbox/done"}, "the folder done .* must be apart"),
        ("inbox", "outbox", {"rejected": "outbox"}, "the folder rejected .* must be apart"),
        ("inbox/cat", "outbox", {"done": "inbox"}, "is or holds the inbox"),
        ("inbox", "outbox", {"rejected": "inbox"}, "is or holds the inbox"),
        ("inbox", "outbox", {"rejected": "file"}, "rejected .* is a file"),
        ("inbox", "outbox", {"done": "kept", "originals": "delete"}, "leave out one of the two"),
        ("protector", "outbox", {}, "the protector .* must be apart"),
        ("inbox", "protector/out", {}, "the protector .* must be apart"),
    ],
)
def test_places_that_would_publish_or_take_the_wrong_files_are_refused(
    tmp_path: Path, inbox: str, outbox: str, chosen: dict[str, str], problem: str
) -> None:
    for folder in ("inbox/cat", "protector"):
        (tmp_path / folder).mkdir(parents=True)
    put(tmp_path / "file", b"")
    (tmp_path / "link").symlink_to(tmp_path / "inbox")
    given = {name: str(tmp_path / value) if name != "originals" else value for name, value in chosen.items()}
    settings = WatchSettings.model_validate(given)
    with pytest.raises(InvalidInput, match=problem):
        place_watch(tmp_path / inbox, tmp_path / outbox, settings, [tmp_path / "protector"])


def test_folders_are_held_and_what_is_made_is_private(tmp_path: Path) -> None:
    place = places(tmp_path)
    with place.locked():
        for folder in (place.inbox, place.outbox, place.done, place.rejected):
            assert folder is not None
            assert not FileLock(folder / ".withhold/lock").is_locked
            with pytest.raises(InvalidInput, match="another watch"), place.locked():
                pytest.fail("two hold it")
            assert (folder / ".withhold").stat().st_mode & 0o077 == 0
    with place.locked():
        pass


@pytest.mark.parametrize("shared", ["done", "rejected"])
def test_watches_that_share_a_folder_exclude_each_other(tmp_path: Path, shared: str) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = (places(tmp_path / name, **{shared: tmp_path / shared}) for name in ("one", "other"))
    refused = pytest.raises(InvalidInput, match=f"another watch is at work on .*{shared}")
    with one.locked(), refused, other.locked():
        pytest.fail("two hold it")
    with other.locked():
        pass


def test_done_and_rejected_may_be_one_folder(tmp_path: Path) -> None:
    place = places(tmp_path, done=tmp_path / "old", rejected=tmp_path / "old")
    with place.locked():
        assert (tmp_path / "old").is_dir()


def test_a_folder_that_cannot_be_written_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's answer is made up: whoever runs the tests may be allowed everything."""
    place = places(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, _: place.rejected != path)
    with pytest.raises(InvalidInput, match=r"cannot write in .*rejected"), place.locked():
        pytest.fail("it was entered")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "file", b"")
    place = places(tmp_path, rejected=tmp_path / "file/rejected")
    with pytest.raises(InvalidInput, match=r"cannot make the folder .*rejected"), place.locked():
        pytest.fail("it was entered")
