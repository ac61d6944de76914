"""Photographs of several sizes with painted faces in them, and the CSV that says where."""

from pathlib import Path

import numpy as np
from tests.release.fakes import png

IDENTITIES = ("ann", "bob", "eve")
Box = tuple[int, int, int, int]

FACES: dict[str, list[tuple[Box, str]]] = {
    "ann/alone.png": [((10, 8, 34, 32), "")],
    "ann/group.png": [((4, 4, 20, 20), ""), ((40, 20, 60, 36), "bob"), ((70, 50, 86, 66), "eve")],
    "bob/alone.png": [((12, 12, 36, 40), "bob")],
    "bob/edge.png": [((0, 0, 24, 24), "")],
    "eve/alone.png": [((8, 20, 24, 36), "")],
    "eve/pair.png": [((6, 6, 26, 26), "eve"), ((20, 16, 44, 40), "ann")],
}
"""By photograph: a box, and the identity unless it is the folder's."""

SIZES = {"ann/group.png": (80, 100), "eve/pair.png": (48, 64)}


def paint(identity: str, height: int, width: int, draw: np.random.Generator) -> np.ndarray:
    """Stripes whose direction and period tell the identity, under noise."""
    period = {"ann": 3, "bob": 5, "eve": 8}[identity]
    rows, columns = np.mgrid[:height, :width]
    wave = np.where((columns if identity == "bob" else rows) % period < period / 2, 150.0, 80.0)
    return (wave[..., None] + draw.normal(0, 10, (height, width, 3))).clip(0, 255).astype(np.uint8)


def photographs(root: Path) -> Path:
    draw = np.random.default_rng(0)
    for name, faces in FACES.items():
        height, width = SIZES.get(name, (44, 40))
        levels = draw.integers(60, 196, (height, width, 3), np.uint8)
        for (x0, y0, x1, y1), identity in faces:
            levels[y0:y1, x0:x1] = paint(identity or name.split("/")[0], y1 - y0, x1 - x0, draw)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(levels))
    return root


def csv_of(faces: dict[str, list[tuple[Box, str]]], file: Path) -> Path:
    rows = [",".join([name, *map(str, box), identity]) for name, boxes in faces.items() for box, identity in boxes]
    file.write_text("\n".join(["image,x0,y0,x1,y1,identity", *rows]), encoding="utf-8")
    return file
