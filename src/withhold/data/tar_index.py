"""What a WebDataset shard holds: which members are images, where they lie in the file, and their labels."""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from withhold.data.listing import is_image, is_unicode
from withhold.data.place import Place
from withhold.data.signatures import FIRST, image_kind
from withhold.errors import InvalidInput


@dataclass(frozen=True, slots=True, eq=False)
class TarIndex:
    """The images of one shard, in the order of their members.

    Attributes:
        members: Their names.
        labels: Their labels, as written.
        places: (n, 2), offset and size of each in the file.
        hidden: Members that are no part of the dataset.
    """

    members: Sequence[str]
    labels: Sequence[int]
    places: np.ndarray
    hidden: Sequence[str]


def read_index(path: Place) -> TarIndex:
    """Go through a shard once.

    Raises:
        InvalidInput: It is broken, an image has no label, a sample has two images, or an image is named like none.
    """
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    hidden: list[str] = []
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as source:
            for member in source:
                key = sample_key(member.name)
                if member.isdir():
                    continue
                if is_hidden(member.name):
                    hidden.append(member.name)
                elif is_image(member.name):
                    _check_image(path, member, images.get(key))
                    images[key] = member
                else:
                    _refuse_disguised(path, source, member)
                    label = _label(path, source, member)
                    if label is not None and (key not in labels or _is_class_file(member)):
                        labels[key] = label
    except (tarfile.TarError, EOFError, OSError) as error:
        msg = f"{path} is not a complete, uncompressed tar file ({error}); replace or unpack it"
        raise InvalidInput(msg) from error
    if unlabelled := [member.name for key, member in images.items() if key not in labels]:
        msg = (
            f"{path} holds {len(unlabelled)} images without a label, such as {unlabelled[0]}; add .cls or .json members"
        )
        raise InvalidInput(msg)
    places = np.array([(member.offset_data, member.size) for member in images.values()], np.int64).reshape(-1, 2)
    return TarIndex([member.name for member in images.values()], [labels[key] for key in images], places, hidden)


def _refuse_disguised(path: Place, source: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Refuse an image that is not named like one: it would be released as it is."""
    file = source.extractfile(member) if member.isreg() else None
    if file is not None and (kind := image_kind(file.read(FIRST))):
        msg = (
            f"{member.name} in {path} is an image ({kind}) that is not named like one, and would be released "
            f"unprotected; drop it from the source, or convert it to a .png"
        )
        raise InvalidInput(msg)


def _check_image(path: Place, member: tarfile.TarInfo, other: tarfile.TarInfo | None) -> None:
    if other is not None:
        msg = f"{path} holds a sample with two images, {other.name} and {member.name}; keep one image per sample"
        raise InvalidInput(msg)
    if not member.isreg() or member.issparse():
        msg = f"{member.name} in {path} is a link or sparse; store the image itself"
        raise InvalidInput(msg)
    if not is_unicode(member.name):
        msg = f"the name {member.name!r} in {path} is not valid UTF-8; rename the member"
        raise InvalidInput(msg)


def _label(path: Place, source: tarfile.TarFile, member: tarfile.TarInfo) -> int | None:
    """Read the label off a `.cls` or `.json` member; None for other members and for `.json` without a label."""
    is_json = member.name.lower().endswith(".json")
    if not (is_json or _is_class_file(member)) or (file := source.extractfile(member)) is None:
        return None
    try:
        content = json.loads(file.read())
        label = content.get("label") if is_json else content
    except (ValueError, AttributeError):
        label = "unreadable text"
    if label is None or (isinstance(label, int) and not isinstance(label, bool) and label >= 0):
        return label
    msg = f"expected a class number of at least 0 in {member.name} of {path}, got {label!r}"
    raise InvalidInput(msg)


def _is_class_file(member: tarfile.TarInfo) -> bool:
    return member.name.lower().endswith(".cls")


def sample_key(name: str) -> str:
    """Name of a member's sample: up to the first dot of its last part."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.split(".")[0])


def is_hidden(name: str) -> bool:
    """Say whether a member is hidden, as those are that macOS adds."""
    return PurePosixPath(name).name.startswith(".")
