"""A place in an object store, with as much of `pathlib.Path` as reading and writing datasets takes."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, TypeVar, cast

from withhold.data.object_store import SCHEMES, attempt, open_store
from withhold.errors import InvalidInput, StoreFailed

Result = TypeVar("Result")

_AHEAD = 4 << 20  # bytes fetched at once by an open object


@dataclass(frozen=True, slots=True)
class Child:
    """What a folder of a store holds: an object, or a folder, which is a common beginning of names."""

    name: str
    is_folder: bool


class ObjectPath:
    """An object, or a folder of objects, by its URL. It holds no connection and can be pickled.

    Every operation is tried several times; see `attempt` for what it raises.

    Raises:
        InvalidInput: The URL is of no known store, names no bucket, or holds credentials or a query.
    """

    __slots__ = ("_url",)

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        parts = rest.rstrip("/").split("/")
        if scheme not in SCHEMES:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            msg = f"{url} is in no store that is known; expected a path, or a URL that begins with one of {known}"
            raise InvalidInput(msg)
        if "" in parts or not {".", ".."}.isdisjoint(parts):
            msg = f"expected {scheme}://, then a bucket or a host, then names between single slashes, got {url}"
            raise InvalidInput(msg)
        if "@" in parts[0] or (not SCHEMES[scheme].lists and not {"?", "#"}.isdisjoint(rest)):
            msg = f"a {scheme}:// URL is printed and stored as it is, so it may hold no credentials and no query"
            raise InvalidInput(msg)
        self._url = f"{scheme}://{'/'.join(parts)}"

    def __truediv__(self, below: str) -> "ObjectPath":
        return ObjectPath(f"{self._url}/{below}") if below else self

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"ObjectPath({self._url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    @property
    def scheme(self) -> str:
        """What the URL begins with."""
        return self._url.split("://")[0]

    @property
    def parts(self) -> list[str]:
        """Bucket, or host, and the names below it."""
        return self._url.split("://")[1].split("/")

    @property
    def name(self) -> str:
        """The last part; empty for a whole bucket."""
        return self.parts[-1] if len(self.parts) > 1 else ""

    @property
    def suffix(self) -> str:
        """The name from its last dot on."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "ObjectPath":
        """The folder that this lies in; a whole bucket lies in itself."""
        return ObjectPath(self._url.rpartition("/")[0]) if self.name else self

    @property
    def parents(self) -> Sequence["ObjectPath"]:
        """The folders that this lies in, up to the whole bucket."""
        return [] if not self.name else [self.parent, *self.parent.parents]

    @property
    def lists(self) -> bool:
        """Whether the store can list what it holds, and be written to."""
        return SCHEMES[self.scheme].lists

    def is_within(self, other: "ObjectPath") -> bool:
        """Say whether this is another place, or lies in it."""
        return f"{self._url}/".startswith(f"{other}/")

    def info(self) -> Mapping[str, Any]:
        """Look it up: its `type` is `file` or `directory`, its `size` is in bytes.

        Raises:
            FileNotFoundError: There is neither such an object nor such a folder.
        """
        found: Mapping[str, Any] = self._do("info", "look for", self._url)
        return found

    def is_file(self) -> bool:
        """Say whether it is an object."""
        try:
            return bool(self.info()["type"] == "file")
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Say whether objects lie below."""
        try:
            return self.lists and bool(self.children())
        except FileNotFoundError:
            return False

    def exists(self) -> bool:
        """Say whether it is an object or a bucket, or objects lie below."""
        try:
            return bool(self.info())
        except FileNotFoundError:
            return False

    def children(self) -> list[Child]:
        """List what lies directly below, by name.

        Raises:
            FileNotFoundError: There is neither such a folder nor its bucket, or it is an object.
        """
        found = self._do("ls", "list", self._url, detail=True)
        start = "/".join([*self.parts, ""])
        # An object is found when it is listed itself, and a folder that was made by hand is an object in itself.
        below = [
            Child(each["name"].removeprefix(start), each["type"] == "directory")
            for each in found
            if each["name"].startswith(start) and (each["name"] != start or each["type"] == "directory")
        ]
        if any(child.name in {"", ".", ".."} for child in below):
            msg = f"{self} holds an object whose name has nothing, or only dots, between two slashes; rename it"
            raise InvalidInput(msg)
        return sorted(below, key=lambda child: child.name)

    def iterdir(self) -> Iterator["ObjectPath"]:
        """Yield what lies directly below."""
        return (self / child.name for child in self.children())

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:  # noqa: ARG002 - as `Path.open`
        """Open the object for reading in any order; parts are fetched as they are asked for."""
        size = self.info()["size"]
        if size is None:
            msg = f"cannot read {self}: the server does not say how large it is; download the file"
            raise StoreFailed(msg)
        return cast("BinaryIO", io.BufferedReader(_Parts(self, size), _AHEAD))

    def read_bytes(self) -> bytes:
        """Read the whole object."""
        return bytes(self._do("cat_file", "read", self._url))

    def read_part(self, offset: int, size: int) -> bytes:
        """Read some bytes of the object; fewer at its end.

        Raises:
            StoreFailed: Also where the server gives files only as a whole.
        """
        content = bytes(self._do("cat_file", "read", self._url, start=offset, end=offset + size)) if size else b""
        if len(content) > size:
            msg = f"cannot read {self}: the server gives files only as a whole; download the file"
            raise StoreFailed(msg)
        return content

    def write_bytes(self, content: bytes) -> None:
        """Write the object: it appears whole, or what was there before stays."""
        self._do("pipe_file", "write", self._url, content)

    def upload(self, file: Path) -> None:
        """Write the object from a file on disk: it appears whole, or what was there before stays."""
        store = open_store(self.scheme)
        attempt(partial(store.put_file, str(file), self._url), f"write {self}")

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete the object.

        Raises:
            FileNotFoundError: There is none.
        """
        try:
            self._do("rm_file", "delete", self._url)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _do(self, method: str, doing: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - fsspec has no types
        operation: Callable[..., Any] = getattr(open_store(self.scheme), method)
        return attempt(partial(operation, *args, **options), f"{doing} {self}")


class _Parts(io.RawIOBase):
    """An object as a file: each read is a request for a part."""

    def __init__(self, path: ObjectPath, size: int) -> None:
        self.name = str(path)
        self._path, self._size, self._at = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        wanted = max(0, min(len(buffer), self._size - self._at))
        content = self._path.read_part(self._at, wanted)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
