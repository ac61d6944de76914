"""Run as a program: watches, each killed some file operations later than the last, then followed by one that ends.

Arguments: a folder to work in, the first operation to be killed before, and the step to the next.
Prints how many watches were killed. A consumer takes what is in the outbox after every kill, and must never get an
image twice. Every watch is a fork of this process.
"""

import sys
from pathlib import Path

from tests.online.watch.fakes import fake_protector
from tests.online.watch.inboxes import SOON, fill, leftovers, places, png, tree
from tests.release.crashes import forget_fsync, kill_before_operation, survives

from withhold.online.watch.run import watch
from withhold.online.watch.settings import WatchSettings

ORIGINALS = {"cat/a.png": png(1), "b.png": png(2)}
BAD = {"dog/bad.jpg": b"no picture"}


def attempt(root: Path, number: int | None = None) -> bool:
    """Watch once, killed before an operation that changes files if a number is given; False if it was."""
    place = places(root)

    def work() -> None:
        if number is not None:
            kill_before_operation(number)
        watch(place, fake_protector(), WatchSettings(settle=SOON), once=True)

    return survives(work)


def consume(root: Path) -> None:
    """Take every visible file out of the outbox; none may have been taken before."""
    for name in tree(root / "outbox"):
        target = root / "taken" / name
        assert not target.exists(), f"{name} was published twice"
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / "outbox" / name).rename(target)


def whole(root: Path) -> None:
    """Check after a kill that every original is in one of its places, and not half of it."""
    # In the moment before it is filed away an original has a private name beside its own.
    found = [path.read_bytes() for path in (root / "inbox").rglob("*") if path.is_file()]
    for name, content in {**ORIGINALS, **BAD}.items():
        assert content in found, f"{name} is lost"


def main(root: Path, first: int, step: int) -> int:
    """Kill before one operation after another, until there are no more."""
    forget_fsync()
    killed = 0
    while True:
        place = root / str(killed)
        for name, content in {**ORIGINALS, **BAD}.items():
            fill(place / "inbox", **{name.replace("/", "__").replace(".", "_"): content})
        number = first + step * killed
        if attempt(place, number):
            consume(place)
            break
        killed += 1
        whole(place)
        consume(place)
        attempt(place, 9)  # killed again soon after
        whole(place)
        consume(place)
        assert attempt(place)
        consume(place)
        check(place)
    check(place)
    return killed


def check(root: Path) -> None:
    """Check that everything is where it belongs, once."""
    fake = fake_protector()
    expected = {
        name: fake.protect_accepted([fake.accept(each)], speed="full")[0].content for name, each in ORIGINALS.items()
    }
    assert tree(root / "taken") == expected
    assert tree(root / "outbox") == tree(root / "inbox") == {}
    assert tree(root / "inbox/.withhold/done") == ORIGINALS
    rejected = tree(root / "inbox/.withhold/rejected")
    assert rejected.pop("dog/bad.jpg.reason.txt").startswith(b"dog/bad.jpg: not an image")
    assert rejected == BAD
    assert leftovers(places(root)) == []


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))  # noqa: T201
