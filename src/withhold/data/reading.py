"""Reading images that are rows of shards, in any order."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from withhold.data.dataset import Entry
from withhold.data.pixels import UnreadableImage
from withhold.data.place import Place
from withhold.errors import InvalidInput, RunStopped

_TOGETHER = 256  # images held at once; batches of crafting are of this size too

Fetched = bytes | RunStopped | None
"""What a row of a shard gave: its image, why it cannot be read, or nothing."""


def read_sharded(
    entries: Sequence[Entry], fetch: Callable[[str, Sequence[int]], Mapping[int, Fetched]]
) -> Iterator[bytes]:
    """Yield stored bytes in the order of `entries`, going through each shard once for every few hundred of them.

    Args:
        fetch: Reads rows, ascending, of one shard.

    Raises:
        UnreadableImage: A row holds no image; those in front of it were yielded.
        RunStopped: A row cannot be read; those in front of it were yielded.
    """
    for start in range(0, len(entries), _TOGETHER):
        some = entries[start : start + _TOGETHER]
        rows: dict[str, list[int]] = defaultdict(list)
        for entry in some:
            rows[entry.shard].append(entry.row)
        found = {shard: fetch(shard, sorted(wanted)) for shard, wanted in rows.items()}
        for entry in some:
            stored = found[entry.shard][entry.row]
            if stored is None:
                msg = f"{entry.name} holds no image bytes; embed the image in the file, or leave the row out"
                raise UnreadableImage(msg)
            if isinstance(stored, RunStopped):
                raise stored
            yield stored


@contextmanager
def reading_from(path: Place, *damages: type[Exception]) -> Iterator[None]:
    """Turn failures to read a shard that could be read when the run began into a message.

    Args:
        damages: Further exceptions that mean a damaged or a changed file.

    Raises:
        RunStopped: Names the file, the reason and the remedy.
    """
    failures: tuple[type[Exception], ...] = (OSError, InvalidInput, *damages)
    try:
        yield
    except failures as error:
        raise unreadable_shard(path, error) from error


def unreadable_shard(path: Place, error: Exception, what: str = "") -> RunStopped:
    """Word the failure to read a shard, or `what` in it."""
    return RunStopped(f"cannot read {what}{path} ({error}); restore the file, then run the same command again")
