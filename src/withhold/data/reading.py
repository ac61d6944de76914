"""Reading images that are rows of shards, in any order."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from withhold.data.dataset import Entry
from withhold.data.pixels import UnreadableImage

_TOGETHER = 256  # images held at once; batches of crafting are of this size too


def read_sharded(
    entries: Sequence[Entry], fetch: Callable[[str, Sequence[int]], Mapping[int, bytes | None]]
) -> Iterator[bytes]:
    """Yield stored bytes in the order of `entries`, going through each shard once for every few hundred of them.

    Args:
        fetch: Reads rows, ascending, of one shard; None stands for a row that holds no image.

    Raises:
        UnreadableImage: A row holds no image; those in front of it were yielded.
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
            yield stored
