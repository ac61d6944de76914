from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.release.fakes import CLASSES, Listener, settings

from withhold.data import entries as listing
from withhold.data.dataset import Entry
from withhold.data.entries import Entries, list_entries, read_each, released_names
from withhold.data.open import open_dataset
from withhold.data.parallel import map_ahead
from withhold.errors import InvalidInput, RunStopped
from withhold.release.scan import check_classes, enumerate_some, scan


def test_columns_give_back_the_entries(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WINDOW", 5)
    dataset = open_dataset(source)
    entries = Entries(list_entries(dataset))
    expected = list(dataset.entries())
    assert list(entries) == expected
    assert len(entries) == 12
    assert entries[3] == expected[3]
    assert entries[-1] == expected[-1]
    assert list(entries[2:9:3]) == expected[2:9:3]
    assert list(entries.take(np.array([7, 0]))) == [expected[7], expected[0]]
    assert released_names(dataset, entries, "png").to_pylist() == [entry.name for entry in expected]
    with pytest.raises(IndexError):
        entries[12]


def test_entries_that_were_picked_can_be_picked_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WINDOW", 2)
    dataset = open_dataset(source)
    expected = [entry for entry in dataset.entries() if entry.label != 1]
    picked = Entries(list_entries(dataset)).take(np.array([0, 1, 2, 3, 8, 9, 10, 11]))
    assert list(picked) == expected
    assert list(picked[2:7]) == expected[2:7]
    assert list(picked[::-3]) == expected[::-3]
    assert list(picked.take(np.array([5, 4]))) == [expected[5], expected[4]]
    assert (len(picked), picked[-1], len(picked[5:2])) == (8, expected[-1], 0)
    assert picked.labels.tolist() == [0, 0, 0, 0, 2, 2, 2, 2]
    assert picked.take(np.array([7, 0])).labels.tolist() == [2, 0]


def test_a_scan_notes_size_mode_and_hash_of_every_image(source: Path) -> None:
    (source / "dog" / "0.png").write_bytes(b"no image")
    listener = Listener()
    found = scan(open_dataset(source), listener)
    rows = found.table.to_pylist()
    assert [problem.name for problem in found.unreadable] == ["dog/0.png"]
    assert [(row["width"], row["height"], row["mode"]) for row in rows[3:6]] == [
        (12, 12, "RGB"),
        (0, 0, ""),
        (12, 12, "RGB"),
    ]
    assert len({row["sha256"] for row in rows}) == 12
    assert settings().batch_size == 4
    assert listener.tasks == [("Reading the source", 12)]


def test_a_file_that_the_system_does_not_give_stops_the_scan(source: Path) -> None:
    dataset = open_dataset(source)
    whole = dataset.read

    def failing(entries: Sequence[Entry]) -> Iterator[bytes]:
        for entry in entries:
            if entry.name == "dog/1.png":
                raise PermissionError(13, "Permission denied")
            yield from whole([entry])

    dataset.read = failing  # type: ignore[method-assign]
    with pytest.raises(RunStopped, match="cannot read the source: Permission denied"):
        scan(dataset, Listener())
    stored = list(read_each(dataset, Entries(list_entries(dataset))))
    assert [isinstance(each, bytes) for each in stored] == [row != 5 for row in range(12)]


@pytest.mark.parametrize(("labels", "message"), [([], "got 0"), ([1, 1], r"got 1 \('dog'\)"), ([0, 0, 1], "'dog'")])
def test_too_few_images_of_a_class_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_classes(CLASSES, np.array(labels, np.int32))


def test_a_class_without_images_is_no_obstacle() -> None:
    check_classes(CLASSES, np.array([0, 0, 2, 2], np.int32))


def test_long_lists_are_cut() -> None:
    assert enumerate_some(["a", "b"]) == "a, b"
    assert enumerate_some([str(number) for number in range(30)]).endswith("18, 19 and 10 more")


def test_work_in_threads_keeps_order_and_passes_on_the_first_failure() -> None:
    assert list(map_ahead(lambda number: number * 2, range(200))) == [number * 2 for number in range(200)]
    with pytest.raises(ZeroDivisionError):
        list(map_ahead(lambda number: 1 // (number - 50), range(200)))


def test_work_in_threads_draws_only_a_little_ahead() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    results = map_ahead(abs, items())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(drawn) < 100
