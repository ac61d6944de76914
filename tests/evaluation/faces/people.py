"""Synthetic people: patches of colour that tell who it is, under noise; originals, a release, a test set, and pairs."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

SIDE = 32
BOUND = 8
PEOPLE = 8
PICTURES = 6
TESTED = 3
STRANGERS = 8

TINY = "tests.evaluation.faces.people:tiny"


def picture(person: int, number: int, side: int = SIDE) -> np.ndarray:
    """Draw one picture of a person (side, side, 3), uint8: the same colours each time, other light and other noise.

    Left and right are alike, as in faces, since training mirrors pictures.
    """
    half = np.random.default_rng(person).integers(40, 215, (4, 2, 3))
    patches = np.concatenate([half, half[:, ::-1]], axis=1)
    draw = np.random.default_rng((person, number))
    pixels = np.kron(patches, np.ones((side // 4, side // 4, 1))) + draw.normal(0, 12, (side, side, 3))
    return np.clip(pixels + draw.integers(-15, 16), 0, 255).astype(np.uint8)


def name(person: int) -> str:
    return f"person-{person:02d}"


def changed(image: np.ndarray, strength: int = BOUND, seed: int = 9) -> np.ndarray:
    signs = np.random.default_rng((seed, int(image.astype(np.int64).sum()))).choice([-strength, strength], image.shape)
    moved: np.ndarray = np.clip(image.astype(np.int32) + signs, 0, 255).astype(np.uint8)
    return moved


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    path.write_bytes(file.getvalue())


def write(root: Path, people: range, numbers: range, strength: int = 0) -> Path:
    for person in people:
        for number in numbers:
            image = picture(person, number)
            save(root / name(person) / f"{number}.png", changed(image, strength) if strength else image)
    return root


def write_pairs(file: Path, people: range) -> Path:
    """Write pairs of people: all three pairs of each one's three pictures, and as many of two people."""
    rows = []
    for person in people:
        for number in range(3):
            save(file.parent / file.stem / f"{person}-{number}.png", picture(person, number))
            other = people[(person - people[0] + 1) % len(people)]
            rows.append((1, f"{person}-{number}.png", f"{person}-{(number + 1) % 3}.png"))
            rows.append((0, f"{person}-{number}.png", f"{other}-{number}.png"))
    with file.open("w", newline="") as target:
        csv.writer(target).writerows([("same", "image_a", "image_b"), *rows])
    return file


def tiny(classes: int) -> nn.Module:
    """Build a recogniser with an embedding of 16 numbers that trains in no time."""
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, classes))


def judge() -> nn.Module:
    """Build a recogniser that looks at the colours themselves."""
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.BatchNorm1d(48, affine=False))


def blind_in_the_dark() -> nn.Module:
    """Build a recogniser whose embeddings are finite but for a picture that is black."""

    class Dark(nn.Module):
        def forward(self, images):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            means = images.mean((2, 3))
            return means / means.norm(dim=1, keepdim=True)

    return Dark()


def blind() -> nn.Module:
    """Build a recogniser whose embeddings are not finite."""

    class Blind(nn.Module):
        def forward(self, images):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            return images.flatten(1)[:, :4] / 0

    return Blind()


@dataclass(frozen=True)
class Folders:
    originals: Path
    released: Path
    test: Path
    pairs: Path


def folders(root: Path, people: int = PEOPLE) -> Folders:
    known, numbers = range(people), range(PICTURES)
    return Folders(
        write(root / "faces", known, numbers),
        write(root / "released", known, numbers, BOUND),
        write(root / "test", known, range(50, 50 + TESTED)),
        write_pairs(root / "pairs.csv", range(100, 100 + STRANGERS)),
    )
