"""A protector that computes next to nothing, for tests of what happens to files."""

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np

from withhold.data.pixels import encode
from withhold.online.image import Accepted, read
from withhold.online.protector import Protector, Released
from withhold.online.settings import SpeedName


class FakeProtector:
    """Moves every level by one."""

    document = SimpleNamespace(lanes=1)

    def accept(self, image: bytes, label: str | None = None) -> Accepted:
        picture, digest = read(image)
        return Accepted(picture, None if label is None else 0, digest)

    def protect_accepted(self, images: Sequence[Accepted], *, speed: SpeedName) -> list[Released]:
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
    return cast(Protector, FakeProtector())
