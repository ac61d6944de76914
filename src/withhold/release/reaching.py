"""Whether what a run reads from and writes to in object stores is there and may be used; asked before any work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from withhold.data.listing import SHARD_SUFFIXES, walk
from withhold.data.object_path import ObjectPath
from withhold.data.place import Place
from withhold.errors import InvalidInput, StoreFailed
from withhold.release.document import NAME as DOCUMENT
from withhold.release.document import ReleaseDocument
from withhold.release.sidecar import Sidecar

_PROBE = ".withhold-probe"
"""Object that is written and deleted at once, to learn whether a destination may be written to."""


@contextmanager
def before_work() -> Iterator[None]:
    """Turn failures of a store into a refusal.

    Raises:
        InvalidInput: A store refused, or failed at every attempt.
    """
    try:
        yield
    except StoreFailed as error:
        raise InvalidInput(str(error)) from error


def check_reachable(source: Place) -> None:
    """Refuse a source in a store from which it cannot be read; says nothing of paths on disk.

    Raises:
        InvalidInput: Credentials or permissions are missing, the store does not answer, the bucket or what is looked
            for is not there, or only HTTP leads to it and it is no single file.
    """
    if isinstance(source, Path):
        return
    if not source.lists and source.suffix not in SHARD_SUFFIXES:
        msg = f"HTTP cannot list what a server holds: of {source} give one .parquet or .tar file, or download it"
        raise InvalidInput(msg)
    with before_work():
        if not source.is_file():
            if source.lists:
                _check_bucket(source)
            if not source.is_dir():
                msg = f"there is nothing at {source}; check the URL"
                raise InvalidInput(msg)
            first = next(walk(source), "")
            (source / first).is_file()  # listing and reading are permitted apart


def holds_files(folder: Place) -> bool:
    """Say whether a folder exists and is not empty."""
    if isinstance(folder, Path):
        return folder.is_dir() and any(folder.iterdir())
    try:
        return any(child.name != _PROBE for child in folder.children())
    except FileNotFoundError:
        return False


def check_published(released: Place, document: ReleaseDocument | None) -> None:
    """Refuse a release in a store that is still being built: its release.json is what is written last.

    Raises:
        InvalidInput: It has none.
    """
    if document is None and isinstance(released, ObjectPath) and released.is_dir():
        msg = f"{released} is no finished release: it has no {DOCUMENT}, which is written last; let its run finish"
        raise InvalidInput(msg)


def check_destination(destination: ObjectPath) -> None:
    """Refuse a destination in a store that no release can be written to.

    Raises:
        InvalidInput: As `check_reachable` does; or it is a whole bucket, an object, or on a server that is only read.
    """
    if not destination.lists:
        msg = f"nothing can be written to {destination} over HTTP; name a folder on disk or in an object store"
        raise InvalidInput(msg)
    if not destination.name:
        msg = f"the destination {destination} is a whole bucket; name a new folder in it."
        raise InvalidInput(msg)
    with before_work():
        if destination.is_file():
            msg = f"the destination {destination} is an object; a release is a folder, name a new one."
            raise InvalidInput(msg)
        _check_bucket(destination)
        holds_files(destination)


def check_writable(sidecar: Sidecar) -> None:
    """Refuse a destination in a store that must not be written to; asked when a run begins, not when it goes on.

    Raises:
        InvalidInput: Says what the store refused.
    """
    if isinstance(sidecar.destination, Path) or sidecar.plan_document.exists():
        return
    probe = sidecar.destination / _PROBE
    with before_work():
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)


def refuse_leftovers(sidecar: Sidecar) -> None:
    """Refuse to plan anew where an abandoned start left images in a store: they could not be told from foreign ones.

    Raises:
        InvalidInput: Says what to delete.
    """
    if sidecar.building == sidecar.destination and holds_files(sidecar.destination):
        msg = (
            f"an earlier start had planned otherwise and left objects in {sidecar.destination}; delete them, or choose "
            f"another destination."
        )
        raise InvalidInput(msg)


def _check_bucket(place: ObjectPath) -> None:
    bucket = (place, *place.parents)[-1]
    if not bucket.exists():
        msg = f"there is no bucket {bucket}; check its name and the endpoint, or make it"
        raise InvalidInput(msg)
