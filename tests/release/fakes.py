"""Small datasets and a crafter without mathematics, to run everything around crafting."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from withhold.data.pixels import Picture
from withhold.release.crafting import Crafted, Shown
from withhold.release.materials import MakeCrafter, Materials
from withhold.release.run import run
from withhold.release.settings import ProtectSettings
from withhold.release.sidecar import Sidecar

CLASSES = ("cat", "dog", "owl")


def settings(**changes: Any) -> ProtectSettings:  # noqa: ANN401
    return ProtectSettings.model_validate({"batch_size": 4, **changes})


def pixels(seed: int, height: int = 12, width: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 196, (height, width, channels), np.uint8)


def png(levels: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(target, "PNG")
    return target.getvalue()


def class_folders(root: Path, per_class: int = 4, side: int = 12) -> Path:
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            (root / name / f"{index}.png").write_bytes(png(pixels(100 * label + index, side, side)))
    return root


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones included, with its content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@dataclass
class UniformCrafter:
    """Draws each perturbation from its seed: valid, reproducible, and no protection at all."""

    eps: float
    calls: list[int] = field(default_factory=list)

    def on(self, device: str) -> "UniformCrafter":  # noqa: ARG002
        return self

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        self.calls.append(seed)
        draw = np.random.default_rng(seed)
        deltas = [draw.choice([-self.eps, self.eps], picture.unit().shape).astype(np.float32) for picture in pictures]
        losses = [float(show if isinstance(show, int) else len(show)) for show in shown]
        return Crafted(deltas, losses, [0.5] * len(shown), 0.25)


def make_uniform(materials: Materials) -> UniformCrafter:
    return UniformCrafter(float(materials.settings.eps))


@dataclass
class Listener:
    """A reporter that remembers, and calls back when a task starts or work advances."""

    said: list[str] = field(default_factory=list)
    tasks: list[tuple[str, int]] = field(default_factory=list)
    advanced: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def say(self, text: str) -> None:
        self.said.append(text)

    def start(self, task: str, total: int, unit: str) -> None:  # noqa: ARG002
        self.tasks.append((task, total))
        self.advanced = 0

    def advance(self, count: int = 1) -> None:
        self.advanced += count

    def status(self, **counts: int) -> None:
        self.counts = counts

    def finish(self) -> None:
        assert self.advanced == self.tasks[-1][1]


class StoppingCrafter(UniformCrafter):
    """Does something else in place of crafting the second batch."""

    def __init__(self, eps: float, instead: Callable[[], None]) -> None:
        super().__init__(eps)
        self.instead = instead

    def __call__(self, pictures: Sequence[Picture], shown: Sequence[Shown], seed: int) -> Crafted:
        if len(self.calls) == 1:
            self.instead()
        return super().__call__(pictures, shown, seed)


def stopping(instead: Callable[[], None]) -> MakeCrafter:
    def make(materials: Materials) -> StoppingCrafter:
        return StoppingCrafter(float(materials.settings.eps), instead)

    return make


def interrupt() -> None:
    raise KeyboardInterrupt


def never(_: Materials) -> UniformCrafter:
    raise AssertionError("nothing was to be crafted")


def interrupted(source: Path, destination: Path) -> None:
    """Leave a run with one of three batches finished."""
    with pytest.raises(KeyboardInterrupt):
        run(source, destination, settings(), stopping(interrupt))
    assert len(Sidecar(destination).finished()) == 1
