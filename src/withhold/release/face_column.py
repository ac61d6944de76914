"""The faces of a plan as a column: the list of faces of each image."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from withhold.data.faces import Face

FACES = "faces"
"""Name of the column."""

_FACE = pa.struct(
    [("label", pa.int32()), *((name, pa.float64()) for name in ("x", "y", "across", "down"))]  # of `Face.square`
)
COLUMN = pa.list_(_FACE)


def column_of(faces: Iterable[Sequence[Face]]) -> "pa.Array[Any]":
    """Store the faces of each image."""
    names = ("x", "y", "across", "down")
    rows = [[{"label": face.label, **dict(zip(names, face.square, strict=True))} for face in those] for those in faces]
    return pa.array(rows, COLUMN)


def faces_in(column: "pa.ChunkedArray[Any] | pa.Array[Any]") -> Iterator[tuple[Face, ...]]:
    """Read the faces of each image back."""
    stored: list[Any] = column.to_pylist()
    for those in stored:
        yield tuple(Face(face["label"], (face["x"], face["y"], face["across"], face["down"])) for face in those)
