"""Where a release may go: nowhere that it could touch the source, or anything else that is not its own."""

import os
from pathlib import Path

from withhold.data.listing import SHARD_SUFFIXES
from withhold.data.object_path import ObjectPath
from withhold.data.place import Place
from withhold.errors import InvalidInput
from withhold.release.reaching import check_destination, check_reachable, holds_files
from withhold.release.sidecar import Sidecar


def place_release(source: Place, destination: Place, private: Path | None = None) -> Sidecar:
    """Check source and destination against each other, with symbolic links followed, and name the sidecar.

    Args:
        private: The sidecar of a destination in an object store; see `sidecar.beside` for where it is if absent.

    Raises:
        InvalidInput: The source is missing; the destination or the sidecar is the source, inside it or around it; the
            destination is a file, a mount point, or holds files that no run of this sidecar put there; or a store
            cannot be used.
    """
    if isinstance(source, Path):
        source = source.expanduser()
        if not source.exists():
            msg = f"the source {source} does not exist; name a folder or file of images."
            raise InvalidInput(msg)
    check_reachable(source)
    sidecar = _sidecar(source, destination, private)
    if isinstance(source, Path):
        _check_all_apart(source, sidecar)
    if source.is_file() and sidecar.destination.suffix in SHARD_SUFFIXES:
        msg = (
            f"the destination {sidecar.destination} looks like a file; name a folder, which will then hold "
            f"{source.name}."
        )
        raise InvalidInput(msg)
    if isinstance(sidecar.destination, Path):
        _check_is_folder(sidecar.destination)
    _check_is_writable(sidecar.root)
    if sidecar.root.exists() and not sidecar.root.is_dir():
        msg = f"{sidecar.root} is a file, but the run keeps what must stay private there; choose another destination."
        raise InvalidInput(msg)
    _check_sidecar_is_ours(sidecar)
    if holds_files(sidecar.destination) and not sidecar.plan_document.exists():
        msg = (
            f"the destination {sidecar.destination} holds files that are not of this release; name a new or empty "
            f"folder."
        )
        raise InvalidInput(msg)
    return sidecar


def _sidecar(source: Place, destination: Place, private: Path | None) -> Sidecar:
    if isinstance(destination, Path):
        target = destination.expanduser().resolve()
        if private is not None:
            msg = f"the private folder of {target} lies beside it; a place for it is chosen only where that is a URL."
            raise InvalidInput(msg)
        if not target.name:
            msg = f"the destination {destination} is the root of a file system; name a new folder."
            raise InvalidInput(msg)
        return Sidecar(target)
    check_destination(destination)
    if isinstance(source, ObjectPath) and (source.is_within(destination) or destination.is_within(source)):
        msg = f"the destination {destination} and the source {source} lie in each other; name another folder."
        raise InvalidInput(msg)
    return Sidecar(destination, None if private is None else private.expanduser().resolve())


def _check_all_apart(source: Path, sidecar: Sidecar) -> None:
    linked = _linked_folders(source)
    for place, what in ((sidecar.destination, "destination"), (sidecar.root, "private folder of the destination")):
        if isinstance(place, Path):
            _check_apart(source, place, what)
            _check_outside_links(linked, place, what)


def _check_apart(source: Path, place: Path, what: str) -> None:
    if _same(place, source):
        msg = f"the {what} {place} is the source; name another folder, the source is never written to."
        raise InvalidInput(msg)
    real = source.resolve()
    if any(_same(parent, source) for parent in place.parents):
        msg = f"the {what} {place} lies inside the source {real}; name a folder outside it."
        raise InvalidInput(msg)
    if any(_same(parent, place) for parent in real.parents):
        msg = f"the {what} {place} contains the source {real}; name another folder."
        raise InvalidInput(msg)


def _linked_folders(source: Path) -> set[Path]:
    """Find the real folders that the source reaches by links, each looked into once however many lead to it."""
    inside = source.resolve()
    found: set[Path] = set()
    for folder, below, _ in os.walk(source, followlinks=True):
        real = Path(folder).resolve()
        if real in found:
            below.clear()
        found.add(real)
    return {real for real in found if not real.is_relative_to(inside)}


def _check_outside_links(linked: set[Path], place: Path, what: str) -> None:
    holder = next((folder for folder in (place.resolve(), *place.resolve().parents) if folder in linked), None)
    if holder is not None:
        msg = f"the {what} {place} lies in {holder}, which a link makes part of the source; name a folder outside it."
        raise InvalidInput(msg)


def _same(one: Path, other: Path) -> bool:
    """Compare by identity where both exist: names may differ by links, mounts or upper case."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _check_is_folder(target: Path) -> None:
    if target.exists() and not target.is_dir():
        msg = f"the destination {target} is a file; a release is a folder, name a new one."
        raise InvalidInput(msg)
    if target.is_mount():
        msg = (
            f"the destination {target} is a mount point, and a release appears by one rename; name a folder inside it."
        )
        raise InvalidInput(msg)


def _check_is_writable(place: Path) -> None:
    parent = next(parent for parent in place.parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        msg = f"cannot write in {parent}; choose another destination, or change its permissions."
        raise InvalidInput(msg)


def _check_sidecar_is_ours(sidecar: Sidecar) -> None:
    if foreign := sidecar.foreign():
        msg = f"{sidecar.root} holds {foreign[0]!r}, which no run of Withhold put there; choose another destination."
        raise InvalidInput(msg)
