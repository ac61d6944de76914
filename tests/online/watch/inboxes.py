"""Inboxes with small pictures in them, and where everything is after a watch."""

import io
from pathlib import Path
from typing import Any

from PIL import Image
from tests.online.protectors import pixels

from withhold.online.protector import Protector
from withhold.online.watch.outcome import Protected, Rejected
from withhold.online.watch.places import Places, place_watch
from withhold.online.watch.run import WatchReport, watch
from withhold.online.watch.settings import WatchSettings

SOON = 0.01
"""Seconds to settle: in these tests files are whole from the beginning."""


def png(seed: int = 0, side: int = 16) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels(seed, side, side)).save(target, "PNG")
    return target.getvalue()


def fill(folder: Path, **files: bytes) -> None:
    """Write files; `__` in a name stands for a slash and `_` for a dot."""
    for name, content in files.items():
        put(folder / name.replace("__", "/").replace("_", "."), content)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Return the visible files of a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(".")}


def places(root: Path, **chosen: Any) -> Places:  # noqa: ANN401
    (root / "inbox").mkdir(exist_ok=True)
    return place_watch(root / "inbox", root / "outbox", WatchSettings(**chosen))


def run_once(
    root: Path,
    protector: Protector,
    **chosen: Any,  # noqa: ANN401
) -> tuple[WatchReport, list[Protected | Rejected]]:
    """Protect what is in `root/inbox` into `root/outbox`, and end."""
    told: list[Protected | Rejected] = []
    settings = WatchSettings(**{"settle": SOON, **chosen})
    return watch(places(root, **chosen), protector, settings, once=True, tell=told.append), told


def leftovers(place: Places) -> list[str]:
    """Name what a watch keeps only while it works."""
    kept = [*place.journal.glob("*"), *place.staging.glob("*")]
    return [path.name for path in kept if path.name != "lock"]
