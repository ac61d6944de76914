"""A protector that computes next to nothing, for tests of what happens to files."""

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from withhold.data.pixels import encode
from withhold.online.image import Accepted, Given, read
from withhold.online.protector import Protector, Released
from withhold.online.settings import DEFAULT_SPEED, SpeedName


class FakeProtector(Protector):
    """Moves every level by one."""

    def __init__(self) -> None:
        self.document = SimpleNamespace(lanes=1)  # type: ignore[assignment]

    def accept(self, image: Given, label: str | int | None = None) -> Accepted:
        picture, digest = read(image)
        return Accepted(picture, None if label is None else 0, digest)

    def protect_accepted(self, images: Sequence[Accepted], *, speed: SpeedName = DEFAULT_SPEED) -> list[Released]:
        return [self._released(image, speed) for image in images]

    def _released(self, image: Accepted, speed: SpeedName) -> Released:
        changed = image.picture.perturbed(np.full((3, *image.picture.levels.shape[:2]), 1 / 255), 1)
        content = encode(changed, "png")
        return Released(
            content=content,
            media_type="image/png",
            picture=changed,
            label="cat",
            label_was_given=image.label is not None,
            speed=speed,
            largest_change=1.0,
            psnr=48.1,
            sha256_before=image.sha256,
            sha256_after=hashlib.sha256(content).hexdigest(),
            seconds=0.0,
            protector="0" * 64,
        )


def fake_protector() -> Protector:
    return FakeProtector()
