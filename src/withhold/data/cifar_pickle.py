"""The pickles of the official CIFAR batches, read without running anything in them and written as Python 2 wrote them.

Unpickling may call whatever a file names. Here it can reach three classes of this module, which only keep what they are
given, and two conversions of text to bytes; a file that names anything else is refused.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from withhold.data.place import Place
from withhold.errors import InvalidInput, StoreFailed

_SHORT = 256  # SHORT_BINSTRING counts its bytes in one byte


class _Type:
    """Stands for a numpy dtype."""

    def __init__(self, name: str | bytes, *_: object) -> None:
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and flags: the name of a one-byte type says all."""


class _Array:
    """Stands for a numpy array; `content` makes the real one."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def content(self) -> np.ndarray:
        _, shape, kind, fortran, raw = self.state
        if kind.name not in {"u1", "uint8"}:
            msg = f"expected an array of uint8, got {kind.name}"
            raise ValueError(msg)
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


class _ArrayClass:
    """Stands for the class `numpy.ndarray`, which array pickles name but need not call."""


def _encode(text: str, encoding: str | bytes) -> bytes:
    if encoding not in {"latin1", b"latin1"}:
        msg = f"expected text in latin1, got {encoding!r}"
        raise ValueError(msg)
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand for `bytes`, which Python 3 calls to make an empty string and for nothing else."""
    return b""


_ALLOWED: Mapping[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """Refuse everything that batches of pixels do not need."""
        if (module, name) not in _ALLOWED:
            msg = f"it asks for {module}.{name}, which no CIFAR batch needs"
            raise InvalidInput(msg)
        return _ALLOWED[module, name]


def load(path: Place) -> dict[Any, Any]:
    """Read a dictionary with byte-string keys, as `pickle.load(file, encoding="bytes")` would.

    Raises:
        InvalidInput: The file is no pickle of a dictionary, or it asks for code to be run.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        return {key: value.content() if isinstance(value, _Array) else value for key, value in content.items()}
    except StoreFailed:
        raise
    except Exception as error:  # a broken pickle raises nearly anything
        msg = f"{path} is not an official CIFAR file ({error}); download the set again"
        raise InvalidInput(msg) from error


def dump(content: Mapping[Any, Any], file: BinaryIO) -> None:
    """Write a dictionary as Python 2 wrote it, in protocol 2: equal contents give equal bytes.

    Byte strings become strings of Python 2, so that `encoding="latin1"`, which most readers use, gives text for keys.
    Python 3's own pickler has no way to write those.
    """
    file.write(pickle.PROTO + b"\x02")
    for part in _opcodes(content):
        file.write(part)
    file.write(pickle.STOP)


def _opcodes(value: object) -> Iterator[bytes]:
    if isinstance(value, bytes):
        short = len(value) < _SHORT
        yield pickle.SHORT_BINSTRING if short else pickle.BINSTRING
        yield len(value).to_bytes(1 if short else 4, "little")
        yield value
    elif isinstance(value, list):
        yield pickle.EMPTY_LIST + pickle.MARK
        for item in value:
            yield from _opcodes(item)
        yield pickle.APPENDS
    elif isinstance(value, Mapping):
        yield pickle.EMPTY_DICT + pickle.MARK
        for key, item in value.items():
            yield from _opcodes(key)
            yield from _opcodes(item)
        yield pickle.SETITEMS
    elif isinstance(value, np.ndarray):
        yield from _array_opcodes(value)
    else:
        yield pickle.dumps(value, protocol=2)[2:-1]  # without PROTO and STOP


def _array_opcodes(value: np.ndarray) -> Iterator[bytes]:
    """Build an array of uint8 as numpy does, under the module name that every version of numpy knows."""
    yield pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n" + pickle.GLOBAL + b"numpy\nndarray\n"
    yield from _opcodes((0,))
    yield from _opcodes(b"b")
    yield pickle.TUPLE3 + pickle.REDUCE
    yield pickle.MARK
    yield from _opcodes(1)
    yield from _opcodes(value.shape)
    yield pickle.GLOBAL + b"numpy\ndtype\n"
    yield from _opcodes(b"u1")
    yield pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3 + pickle.REDUCE
    yield pickle.NEWFALSE  # not in Fortran order
    yield from _opcodes(value.tobytes())
    yield pickle.TUPLE + pickle.BUILD
