"""Class folders of striped images: originals, a release within 8 levels, and a clean test set."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

CLASSES = ("across", "down")
SIDE = 16
BOUND = 8


def stripes(count: int, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, side, side, 3), uint8, of which only the direction of stripes tells the class, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    wave = np.where(np.arange(side) % 4 < 2, 150, 60)
    lines = np.stack([np.roll(wave, shift) for shift in rng.integers(0, 4, count)])
    across = np.repeat(lines[:, :, None], side, axis=2)
    pixels = np.where((labels == 0)[:, None, None], across, across.transpose(0, 2, 1))[..., None]
    noise = rng.normal(0, 25, (count, side, side, 3))
    return np.clip(pixels + noise, 0, 255).astype(np.uint8), labels


def write(root: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...] = CLASSES) -> Path:
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / classes[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        path.write_bytes(file.getvalue())
    return root


def changed(images: np.ndarray, seed: int = 9) -> np.ndarray:
    signs = np.random.default_rng(seed).choice([-BOUND, BOUND], images.shape)
    moved: np.ndarray = np.clip(images.astype(np.int32) + signs, 0, 255).astype(np.uint8)
    return moved


def tiny(classes: int) -> nn.Module:
    """Build a network for images of `SIDE` pixels that trains in no time."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(4 * (SIDE // 4) ** 2, classes),
    )


@dataclass(frozen=True)
class Folders:
    originals: Path
    released: Path
    test: Path


def folders(root: Path, count: int = 48, side: int = SIDE) -> Folders:
    images, labels = stripes(count, seed=0, side=side)
    return Folders(
        write(root / "photos", images, labels),
        write(root / "released", changed(images), labels),
        write(root / "test", *stripes(20, seed=1, side=side)),
    )
