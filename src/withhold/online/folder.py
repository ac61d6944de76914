"""A protector on disk: what it is in `protector.json`, its networks and directions as safetensors, and its key.

All of it is private: whoever has the surrogate, the generator or the key can undo protection, or foresee it.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict

from withhold.data.atomic import sync_folder, write_atomic
from withhold.errors import InvalidInput
from withhold.online.generator import Shape
from withhold.online.settings import OnlineSettings, Speed, SpeedName

FORMAT = 1
DOCUMENT = "protector.json"
SURROGATE = "surrogate.safetensors"
DIRECTIONS = "directions.safetensors"
GENERATOR = "generator.safetensors"
KEY = "key"
KEY_BYTES = 32


class Document(BaseModel):
    """What a protector says about itself.

    Attributes:
        version: Of Withhold, when the protector was prepared.
        torch, device, threads, processor: What it was prepared on; results are the same to the bit where these are.
        classes: Names of the labels, in the order of their indices.
        input_size: Side of the square that the surrogate sees.
        crop_size: The same if it sees crops of the pictures; None if it sees pictures of that side whole.
        lanes: Images that are crafted side by side.
        generator: What the generator is built from.
        surrogate: One sentence.
        files: SHA-256 of every other file of the folder.
        fingerprint: SHA-256 of all that is above, and so with `files` of the whole folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    version: str
    torch: str
    device: str
    threads: int
    processor: str
    settings: OnlineSettings
    classes: tuple[str, ...]
    input_size: int
    crop_size: int | None
    lanes: int
    speeds: Mapping[SpeedName, Speed]
    generator: Shape
    surrogate: str
    files: Mapping[str, str] = {}
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A protector as it is on disk, every file as it was written."""

    folder: Path
    document: Document
    files: Mapping[str, bytes]

    @property
    def key(self) -> bytes:
        """The secret that seeds are derived from."""
        return bytes.fromhex(self.files[KEY].decode())


def new_key() -> bytes:
    """Draw a key, as the file holds it: the only draw in Withhold that nothing can repeat."""
    return secrets.token_hex(KEY_BYTES).encode()


def write_folder(folder: Path, document: Document, files: Mapping[str, bytes]) -> None:
    """Write a protector; the document comes last, and without it there is none.

    Raises:
        RunStopped: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name, content in files.items():
        write_atomic(folder / name, content)
        (folder / name).chmod(0o600)
    whole = document.model_copy(update={"files": {name: _sha256(content) for name, content in sorted(files.items())}})
    stated = whole.model_dump(mode="json", exclude={"fingerprint"})
    stated["fingerprint"] = _fingerprint(stated)
    write_atomic(folder / DOCUMENT, (json.dumps(stated, indent=1, ensure_ascii=False) + "\n").encode())
    sync_folder(folder)


def read_folder(folder: Path) -> Stored:
    """Read a protector, and check every file.

    Raises:
        InvalidInput: There is none, or it is of a later format; or files are missing or changed, which are named.
    """
    document = _document(folder)
    files: dict[str, bytes] = {}
    problems: list[str] = []
    for name, expected in document.files.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            problems.append(
                f"{name} is missing" if isinstance(error, FileNotFoundError) else f"{name}: {error.strerror}"
            )
            continue
        if _sha256(content) != expected:
            problems.append(f"{name} was changed")
        files[name] = content
    if problems:
        raise InvalidInput(_damaged(folder, problems))
    return Stored(folder, document, files)


def open_to_others(folder: Path) -> bool:
    """Say whether other users of this machine may read the key."""
    return os.name == "posix" and bool((folder / KEY).stat().st_mode & 0o077)


def _document(folder: Path) -> Document:
    path = folder / DOCUMENT
    if not path.is_file():
        msg = f"{folder} is no protector: there is no {DOCUMENT}. Make one with `withhold online prepare`."
        raise InvalidInput(msg)
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        written = content.get("format")
    except (ValueError, AttributeError, OSError) as error:
        raise InvalidInput(_damaged(folder, [f"{DOCUMENT} cannot be read ({error})"])) from error
    if written != FORMAT:
        msg = f"{path} has format {written!r}, and this version of Withhold reads format {FORMAT}; prepare it anew."
        raise InvalidInput(msg)
    fingerprint = content.pop("fingerprint", None)
    if fingerprint != _fingerprint(content):
        raise InvalidInput(_damaged(folder, [f"{DOCUMENT} was changed"]))
    try:
        return Document.model_validate({**content, "fingerprint": fingerprint})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        msg = (
            f"{path} says what this version of Withhold does not know ({'.'.join(map(str, first['loc']))}: "
            f"{first['msg']}); it was written by version {content.get('version')}. Prepare it anew."
        )
        raise InvalidInput(msg) from error


def _damaged(folder: Path, problems: list[str]) -> str:
    return f"the protector {folder} is damaged: {'; '.join(problems)}. Restore it from a copy, or prepare a new one."


def _fingerprint(content: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(content, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
