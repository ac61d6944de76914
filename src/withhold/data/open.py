"""Recognising the layout of a dataset on disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from withhold.data.cifar import CifarDataset, find_cifar
from withhold.data.dataset import Dataset
from withhold.data.folder import FolderDataset
from withhold.data.listing import is_image, walk
from withhold.data.parquet import ParquetDataset, has_images
from withhold.data.place import Place
from withhold.data.tar import TarDataset
from withhold.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout that datasets come in.

    Attributes:
        describes: What a person calls it.
        recognises: Whether a place holds it, given the place and the files there, as paths relative to it.
        open: Opens a dataset, given the place and the splits to take (all if empty).
    """

    describes: str
    recognises: Callable[[Place, Sequence[str]], bool]
    open: Callable[[Place, Sequence[str]], Dataset]


def _holds_parquet(root: Place, files: Sequence[str]) -> bool:
    base = root.parent if root.is_file() else root
    return any(has_images(base / name) for name in files if name.lower().endswith(".parquet"))


LAYOUTS: Mapping[str, Layout] = {
    "cifar": Layout("official CIFAR batches", lambda root, _: bool(find_cifar(root)), CifarDataset),
    "parquet": Layout("Parquet files with an image column of struct(bytes, path)", _holds_parquet, ParquetDataset),
    "webdataset": Layout(
        "tar shards", lambda _, files: any(name.lower().endswith(".tar") for name in files), TarDataset
    ),
    "folder": Layout("image files in class folders", lambda _, files: any(map(is_image, files)), FolderDataset),
}


def open_dataset(root: Place, *, splits: Sequence[str] = ()) -> Dataset:
    """Open a dataset, whatever its layout.

    Args:
        splits: Names of the splits to take; all if empty.

    Raises:
        InvalidInput: Nothing is there, its layout is unknown or more than one, or a split is not there.
    """
    if not root.exists():
        msg = f"there is nothing at {root}; check the path"
        raise InvalidInput(msg)
    files = [root.name] if root.is_file() else list(_telling(root))
    found = [layout for layout in LAYOUTS.values() if layout.recognises(root, files)]
    if root.is_file() and found == [LAYOUTS["folder"]]:
        found = []  # a single image is no dataset
    if len(found) == 1:
        return found[0].open(root, splits)
    if found:
        several = " and ".join(layout.describes for layout in found)
        msg = f"{root} holds {several}; point to a folder that holds one of them"
        raise InvalidInput(msg)
    known = "; ".join(layout.describes for layout in LAYOUTS.values())
    what = f"{root} is empty" if root.is_dir() and not files else f"{root} is no dataset of a known layout"
    msg = f"{what}; expected one of: {known} (archives must be unpacked first)"
    raise InvalidInput(msg)


def _telling(root: Place) -> list[str]:
    """List one file of every suffix, and every Parquet file: enough to tell the layout without holding all names."""
    seen: dict[str, str] = {}
    for path in walk(root):
        suffix = PurePosixPath(path).suffix.lower()
        seen.setdefault(path if suffix == ".parquet" else suffix, path)
    return list(seen.values())
