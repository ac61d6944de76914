import io
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from tests.online.protectors import pixels, tiny
from tests.online.watch.inboxes import SOON, fill, leftovers, places, png, put, run_once, tree

from withhold.data.pixels import change, decode
from withhold.errors import InvalidInput, RunStopped
from withhold.online.image import Accepted, Unchangeable
from withhold.online.protector import Protector, Released
from withhold.online.settings import SPEEDS, SpeedName
from withhold.online.watch import filing, handling
from withhold.online.watch.arrivals import Arrival, Arrivals
from withhold.online.watch.outcome import Protected, Rejected
from withhold.online.watch.places import place_watch
from withhold.online.watch.run import watch
from withhold.online.watch.settings import WatchSettings


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:  # noqa: ANN401
    target = io.BytesIO()
    (image or Image.fromarray(pixels(7))).save(target, kind, **options)
    return target.getvalue()


@pytest.mark.parametrize("speed", SPEEDS)
def test_what_comes_out_is_what_the_protector_gives(tmp_path: Path, protector: Protector, speed: SpeedName) -> None:
    originals = {"cat/a.png": png(1), "owl/deep/b.jpg": encoded("JPEG"), "c.webp": encoded("WEBP"), "d": png(2)}
    for name, content in originals.items():
        put(tmp_path / "inbox" / name, content)
    report, told = run_once(tmp_path, protector, speed=speed)
    assert (report.protected, report.rejected) == (4, 0)
    expected = {
        "cat/a.png": protector.protect(originals["cat/a.png"], "cat", speed=speed),
        "owl/deep/b.png": protector.protect(originals["owl/deep/b.jpg"], "owl", speed=speed),
        "c.png": protector.protect(originals["c.webp"], speed=speed),
        "d.png": protector.protect(originals["d"], speed=speed),
    }
    assert tree(tmp_path / "outbox") == {name: released.content for name, released in expected.items()}
    assert tree(tmp_path / "inbox") == {}
    assert tree(tmp_path / "inbox/.withhold/done") == originals
    for each in told:
        assert isinstance(each, Protected)
        stated, known = asdict(each), asdict(expected[each.released])
        assert {key: stated[key] for key in stated.keys() & known.keys()} == {
            key: known[key] for key in stated.keys() & known.keys()
        }
        assert each.label_was_given == ("/" in each.name)
    assert {each.name for each in told} == set(originals)
    assert leftovers(places(tmp_path)) == []


def test_the_bound_holds_in_the_files(tmp_path: Path, protector: Protector) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1, 20))
    run_once(tmp_path, protector)
    changed = change(decode(png(1, 20)), decode(tree(tmp_path / "outbox")["cat/a.png"]))
    assert 0 < changed.max() <= protector.bound


BAD = {
    "text.png": (b"no picture", "not an image of a known kind"),
    "empty.jpg": (b"", "not an image of a known kind (0 bytes)"),
    "half.png": (png(3)[:200], "not a complete image"),
    "moving.gif": (
        encoded("GIF", save_all=True, append_images=[Image.fromarray(pixels(8)), Image.fromarray(pixels(9))]),
        "expected a still picture, got several frames",
    ),
    "float.tiff": (encoded("TIFF", Image.new("F", (8, 8))), "pixels of mode F have no fixed range"),
    "lynx/a.png": (png(4), "unknown label 'lynx'"),
    f"{'n' * 245}.png": (png(5), "the file's name is too long"),
}


@pytest.mark.parametrize("name", BAD, ids=[name[:20] for name in BAD])
def test_a_bad_file_is_moved_away_with_its_reason_and_holds_up_nothing(
    tmp_path: Path, protector: Protector, name: str
) -> None:
    content, reason = BAD[name]
    put(tmp_path / "inbox" / name, content)
    fill(tmp_path / "inbox", cat__z_png=png(6))
    report, told = run_once(tmp_path, protector)
    assert (report.protected, report.rejected) == (1, 1)
    assert list(tree(tmp_path / "outbox")) == ["cat/z.png"]
    assert tree(tmp_path / "inbox") == {}
    (rejected,) = [each for each in told if isinstance(each, Rejected)]
    assert rejected.name == name
    assert reason in rejected.problem
    moved = Path(rejected.moved_to)
    assert moved.read_bytes() == content
    assert Path(f"{moved}.reason.txt").read_text() == f"{name}: {rejected.problem}\n"
    assert len(tree(tmp_path / "inbox/.withhold/rejected")) == 2
    assert leftovers(places(tmp_path)) == []


def test_a_picture_that_cannot_be_changed_is_moved_away_with_the_protectors_own_sentence(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = encoded("PNG", Image.new("RGB", (2, 1)))
    monkeypatch.setattr(protector, "craft", lambda pictures, *_: [np.full((3, 1, 2), -1, np.float32) for _ in pictures])
    with pytest.raises(Unchangeable) as refused:
        protector.protect(black)
    fill(tmp_path / "inbox", black_png=black)
    report, told = run_once(tmp_path, protector)
    assert (report.protected, report.rejected) == (0, 1)
    assert [each.problem for each in told if isinstance(each, Rejected)] == [str(refused.value)]
    assert tree(tmp_path / "inbox/.withhold/rejected") == {
        "black.png": black,
        "black.png.reason.txt": f"black.png: {refused.value}\n".encode(),
    }
    assert tree(tmp_path / "outbox") == {}


def test_folders_of_ones_own(tmp_path: Path, protector: Protector) -> None:
    """Also in the inbox: what lies there is not taken for new."""
    fill(tmp_path / "inbox", cat__a_png=png(1), bad_png=b"bad")
    inside = {"done": tmp_path / "inbox" / "old", "rejected": tmp_path / "bad"}
    for _ in range(2):
        run_once(tmp_path, protector, **inside)
    assert tree(tmp_path / "inbox") == {"old/.withhold/lock": b"", "old/cat/a.png": png(1)}
    assert list(tree(tmp_path / "bad")) == ["bad.png", "bad.png.reason.txt"]
    assert list(tree(tmp_path / "outbox")) == ["cat/a.png"]


def test_originals_are_deleted_on_demand_and_only_then(tmp_path: Path, protector: Protector) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1), bad_png=b"bad")
    run_once(tmp_path, protector, originals="delete")
    assert list(tree(tmp_path / "outbox")) == ["cat/a.png"]
    assert [path.name for path in sorted((tmp_path / "inbox").rglob("*")) if path.is_file()] == [
        "lock",
        "lock",
        "bad.png",
        "bad.png.reason.txt",
    ]


def test_another_picture_of_the_same_name_replaces_nothing(tmp_path: Path, protector: Protector) -> None:
    for seed in (1, 2, 3):
        fill(tmp_path / "inbox", cat__a_png=png(seed), bad_png=b"bad" * seed)
        run_once(tmp_path, protector)
    names = ["a.png", "a.2.png", "a.3.png"]
    for folder, expected in (
        ("outbox/cat", [protector.protect(png(seed), "cat").content for seed in (1, 2, 3)]),
        ("inbox/.withhold/done/cat", [png(seed) for seed in (1, 2, 3)]),
    ):
        assert tree(tmp_path / folder) == dict(zip(names, expected, strict=True))
    rejected = tree(tmp_path / "inbox/.withhold/rejected")
    assert {name: rejected[name] for name in ("bad.png", "bad.2.png", "bad.3.png")} == {
        "bad.png": b"bad",
        "bad.2.png": b"badbad",
        "bad.3.png": b"badbadbad",
    }


def test_the_same_picture_again_is_there_once(tmp_path: Path, protector: Protector) -> None:
    for _ in range(2):
        fill(tmp_path / "inbox", cat__a_png=png(1), bad_png=b"bad")
        report, _ = run_once(tmp_path, protector)
        assert (report.protected, report.rejected) == (1, 1)
    assert list(tree(tmp_path / "outbox")) == ["cat/a.png"]
    assert list(tree(tmp_path / "inbox/.withhold/done")) == ["cat/a.png"]
    assert list(tree(tmp_path / "inbox/.withhold/rejected")) == ["bad.png", "bad.png.reason.txt"]


def test_pictures_that_would_have_one_name_get_two(tmp_path: Path, protector: Protector) -> None:
    put(tmp_path / "inbox/cat/a.jpg", encoded("JPEG"))
    put(tmp_path / "inbox/cat/a.png", png(1))
    run_once(tmp_path, protector)
    expected = {protector.protect(content, "cat").content for content in (encoded("JPEG"), png(1))}
    assert tree(tmp_path / "outbox").keys() == {"cat/a.png", "cat/a.2.png"}
    assert set(tree(tmp_path / "outbox").values()) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_of_other_bytes_than_utf_8_comes_through(tmp_path: Path, protector: Protector) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    put(tmp_path / "inbox/cat" / name, png(1))
    put(tmp_path / "inbox" / name, b"bad")
    report, _ = run_once(tmp_path, protector)
    assert (report.protected, report.rejected) == (1, 1)
    assert [os.fsencode(path.name) for path in (tmp_path / "outbox/cat").iterdir()] == [b"caf\xe9.png"]
    reason = tmp_path / "inbox/.withhold/rejected" / f"{name}.reason.txt"
    assert reason.read_text().startswith("'caf\\udce9.png': not an image")


def test_labels_from_a_table_in_the_inbox(tmp_path: Path, protector: Protector) -> None:
    fill(tmp_path / "inbox", a_png=png(1), cat__b_png=png(2), late_png=png(3))
    table = put(tmp_path / "inbox/labels.csv", b"image,label\na.png,owl\ncat/b.png,dog\n")
    report, told = run_once(tmp_path, protector, labels=str(table))
    assert (report.protected, report.rejected) == (2, 0)
    assert {each.name: each.label for each in told if isinstance(each, Protected)} == {
        "a.png": "owl",
        "cat/b.png": "dog",
    }
    assert tree(tmp_path / "inbox").keys() == {"late.png", "labels.csv"}
    put(table, b"image,label\nlate.png,cat\n")
    _, told = run_once(tmp_path, protector, labels=str(table))
    assert [(each.name, each.label) for each in told if isinstance(each, Protected)] == [("late.png", "cat")]


def test_unknown_labels_are_the_surrogates_own(tmp_path: Path, protector: Protector) -> None:
    fill(tmp_path / "inbox", lynx__a_png=png(1))
    _, told = run_once(tmp_path, protector, labels="unknown")
    expected = protector.protect(png(1))
    assert [(each.label, each.label_was_given) for each in told if isinstance(each, Protected)] == [
        (expected.label, False)
    ]


def test_images_are_crafted_side_by_side_and_a_bad_one_among_them_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protector = Protector.load(tiny(tmp_path / "protector", lanes=2))
    for seed in range(5):
        put(tmp_path / f"inbox/cat/{seed}.png", png(seed))
        os.utime(tmp_path / f"inbox/cat/{seed}.png", (seed, seed))
    sizes: list[int] = []
    usual = protector.protect_accepted

    def failing(images: Sequence[Accepted], *, speed: SpeedName) -> list[Released]:
        sizes.append(len(images))
        if any((image.picture.levels == decode(png(2)).levels).all() for image in images):
            msg = "it is not released"
            raise RunStopped(msg)
        return usual(images, speed=speed)

    monkeypatch.setattr(protector, "protect_accepted", failing)
    report, told = run_once(tmp_path, protector)
    assert (report.protected, report.rejected) == (4, 1)
    assert sizes == [2, 2, 1, 1, 1]
    assert [(each.name, each.problem) for each in told if isinstance(each, Rejected)] == [
        ("cat/2.png", "it is not released")
    ]
    for seed in (0, 1, 3, 4):
        assert (tmp_path / f"outbox/cat/{seed}.png").read_bytes() == protector.protect(png(seed), "cat").content


def test_an_error_that_is_no_fault_of_a_file_ends_the_watch_when_each_was_tried_alone_and_rejects_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protector = Protector.load(tiny(tmp_path / "protector", lanes=3))
    fill(tmp_path / "inbox", cat__a_png=png(1), cat__b_png=png(2), cat__c_png=png(3))
    sizes: list[int] = []

    def failing(images: Sequence[Accepted], **_: object) -> list[Released]:
        sizes.append(len(images))
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(protector, "protect_accepted", failing)
        with pytest.raises(ZeroDivisionError):
            run_once(tmp_path, protector)
    assert sizes == [3, 1, 1, 1]
    assert len(tree(tmp_path / "inbox")) == 3
    report, _ = run_once(tmp_path, protector)
    assert (report.protected, report.rejected) == (3, 0)


def test_too_little_memory_for_one_image_does_not_end_the_watch(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1))

    def failing(*_: object, **__: object) -> list[Released]:
        raise MemoryError

    monkeypatch.setattr(protector, "protect_accepted", failing)
    report, told = run_once(tmp_path, protector)
    assert (report.protected, report.rejected) == (0, 1)
    assert [each.problem for each in told if isinstance(each, Rejected)] == ["there is not enough memory for it"]


def test_a_file_that_changes_while_it_is_crafted_is_taken_anew(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = put(tmp_path / "inbox/cat/a.png", png(1))
    usual = protector.protect_accepted

    def changing(images: Sequence[Accepted], *, speed: SpeedName) -> list[Released]:
        if original.read_bytes() == png(1):
            original.write_bytes(png(2))
        return usual(images, speed=speed)

    with monkeypatch.context() as patched:
        patched.setattr(protector, "protect_accepted", changing)
        report, _ = run_once(tmp_path, protector)
    assert report.protected == 1
    assert tree(tmp_path / "outbox") == {"cat/a.png": protector.protect(png(2), "cat").content}
    assert tree(tmp_path / "inbox/.withhold/done") == {"cat/a.png": png(2)}
    assert leftovers(places(tmp_path)) == []


@pytest.mark.parametrize("originals", ["keep", "delete"])
def test_a_new_version_that_comes_while_the_old_one_is_filed_away_is_protected_too(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch, originals: str
) -> None:
    """It is renamed into the inbox after the last look at the old one."""
    fill(tmp_path / "inbox", cat__a_png=png(1))
    new = put(tmp_path / "new.png", png(2))
    usual = Arrivals.unchanged

    def late(arrivals: Arrivals, arrival: Arrival) -> bool:
        found = usual(arrivals, arrival)
        if new.exists() and (tmp_path / "outbox/cat/a.png").exists():
            new.replace(tmp_path / "inbox/cat/a.png")
        return found

    monkeypatch.setattr(Arrivals, "unchanged", late)
    report, _ = run_once(tmp_path, protector, originals=originals)
    assert report.protected == 2
    assert tree(tmp_path / "outbox") == {
        "cat/a.png": protector.protect(png(1), "cat").content,
        "cat/a.2.png": protector.protect(png(2), "cat").content,
    }
    assert tree(tmp_path / "inbox") == {}
    assert leftovers(places(tmp_path)) == []


def test_a_good_version_that_comes_while_a_bad_one_is_moved_away_is_protected(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "inbox", cat__a_png=b"bad")
    new = put(tmp_path / "new.png", png(2))
    usual, asked = Arrivals.unchanged, []

    def late(arrivals: Arrivals, arrival: Arrival) -> bool:
        found = usual(arrivals, arrival)
        asked.append(arrival)
        if len(asked) == 2:  # once after reading, once before moving
            new.replace(tmp_path / "inbox/cat/a.png")
        return found

    monkeypatch.setattr(Arrivals, "unchanged", late)
    report, _ = run_once(tmp_path, protector)
    assert (report.protected, report.rejected) == (1, 0)
    assert tree(tmp_path / "outbox") == {"cat/a.png": protector.protect(png(2), "cat").content}
    assert leftovers(places(tmp_path)) == []


@pytest.mark.parametrize("bad", [False, True])
def test_what_was_set_aside_before_a_kill_is_filed_away_also_by_a_watch_with_another_outbox(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch, bad: bool
) -> None:
    content = b"bad" if bad else png(1)
    fill(tmp_path / "inbox", cat__a_png=content)

    def killed(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(filing, "move_to_free", killed)
        with pytest.raises(ZeroDivisionError):
            run_once(tmp_path, protector)
    assert list((tmp_path / "inbox/cat").glob("[!.]*")) == []
    settings = WatchSettings(settle=SOON)
    other = place_watch(tmp_path / "inbox", tmp_path / "other", settings)
    report = watch(other, protector, settings, once=True)
    assert (report.protected, report.rejected) == (not bad, bad)
    assert tree(tmp_path / "other") == {}
    assert list(tree(tmp_path / "outbox")) == ([] if bad else ["cat/a.png"])
    assert tree(tmp_path / "inbox/.withhold" / ("rejected" if bad else "done"))["cat/a.png"] == content
    assert list((tmp_path / "inbox/cat").iterdir()) == []
    assert leftovers(other) == []


def test_a_file_at_which_process_after_process_ends_is_rejected_at_last(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expects stands for a kill; the other images are protected meanwhile."""
    fill(tmp_path / "inbox", cat__a_png=png(1))
    usual = protector.protect_accepted

    def deadly(images: Sequence[Accepted], *, speed: SpeedName) -> list[Released]:
        if (images[0].picture.levels == decode(png(1)).levels).all():
            raise ZeroDivisionError
        return usual(images, speed=speed)

    monkeypatch.setattr(protector, "protect_accepted", deadly)
    for start in range(handling.MOST_STARTS):
        fill(tmp_path / "inbox", **{f"cat__b{start}_png": png(10 + start)})
        with pytest.raises(ZeroDivisionError):
            run_once(tmp_path, protector)
        assert (tmp_path / f"outbox/cat/b{start}.png").exists() == (start > 0)
    report, told = run_once(tmp_path, protector)
    assert report.rejected == 1
    (problem,) = [each.problem for each in told if isinstance(each, Rejected)]
    assert "5 times the process ended" in problem
    assert len(tree(tmp_path / "outbox")) == handling.MOST_STARTS


def test_two_watches_exclude_each_other(tmp_path: Path, protector: Protector) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1))
    place = places(tmp_path)
    for folder in (place.inbox, place.outbox):
        (folder / ".withhold").mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".withhold/lock"), pytest.raises(InvalidInput, match=f"at work on .*{folder.name}"):
            run_once(tmp_path, protector)
    assert list(tree(tmp_path / "inbox")) == ["cat/a.png"]


def test_a_watch_that_is_told_to_stop_ends_after_the_image_at_hand(tmp_path: Path, protector: Protector) -> None:
    for seed in range(3):
        put(tmp_path / f"inbox/cat/{seed}.png", png(seed))
        os.utime(tmp_path / f"inbox/cat/{seed}.png", (seed, seed))
    stop = threading.Event()
    settings = WatchSettings(settle=SOON)
    report = watch(places(tmp_path), protector, settings, once=True, stop=stop, tell=lambda _: stop.set())
    assert report.protected == 1
    assert list(tree(tmp_path / "outbox")) == ["cat/0.png"]
    assert list(tree(tmp_path / "inbox")) == ["cat/1.png", "cat/2.png"]


def test_what_the_system_refuses_is_said_in_a_sentence(
    tmp_path: Path, protector: Protector, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "inbox", cat__a_png=png(1))

    def refusing(path: Path, _: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(filing, "write_atomic", refusing)
    with pytest.raises(RunStopped, match="Permission denied"):
        run_once(tmp_path, protector)
    assert list(tree(tmp_path / "inbox")) == ["cat/a.png"]
