from pathlib import Path

import pytest

from withhold.online.watch.journal import Journal, Record


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "staging").mkdir()
    return Journal(tmp_path / "journal", tmp_path / "staging")


def record(name: str = "cat/a.png", sha256: str = "0" * 64) -> Record:
    return Record(name, (1, 2, 3), sha256, "/outbox")


def test_what_is_stored_comes_back(journal: Journal, tmp_path: Path) -> None:
    begun = journal.begin(record("caf\udce9/\n.png"))
    ready = journal.ready(begun, "caf\udce9/\n.png", {"label": "cat"})
    (stored,) = Journal(tmp_path / "journal", tmp_path / "staging").records()
    assert stored.arrival == ready.arrival == record("caf\udce9/\n.png").arrival
    assert (stored.target, stored.result, stored.starts) == (ready.target, ready.result, 1)


def test_watches_that_begin_a_file_are_counted_and_not_its_beginnings(journal: Journal, tmp_path: Path) -> None:
    assert [journal.begin(record()).starts, journal.begin(record()).starts] == [1, 1]
    later = Journal(tmp_path / "journal", tmp_path / "staging")
    assert later.begin(record()).starts == 2
    assert later.begin(record(sha256="1" * 64)).starts == 1
    later.forget(record())
    assert later.begin(record()).starts == 1


def test_forgetting_leaves_nothing(journal: Journal, tmp_path: Path) -> None:
    begun = journal.begin(record())
    journal.staged(begun).write_bytes(b"image")
    journal.forget(begun)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    journal.forget(begun)


@pytest.mark.parametrize("content", ["", "{}", '{"name": "a.png", "colour": 1}', "[1]"])
def test_a_record_that_cannot_be_read_is_as_none(journal: Journal, tmp_path: Path, content: str) -> None:
    begun = journal.begin(record())
    (place,) = (tmp_path / "journal").iterdir()
    place.write_text(content)
    assert journal.records() == []
    assert not place.exists()
    assert journal.begin(begun).starts == 1
