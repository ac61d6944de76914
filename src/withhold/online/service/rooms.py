"""Room for images that wait or are crafted: one for single requests, and one for requests that are patient."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from withhold.online.service.budget import Budget
from withhold.online.service.crafting import QueueFull
from withhold.online.service.settings import ServiceSettings

PATIENT_SHARE = 4
"""The images that wait for room have a room of their own, of this part of the queue, so that no image starves."""


class Rooms:
    """Bounds the images that are in work at a time. Used from one event loop."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._single = Budget(settings.max_queue, settings.max_queue_pixels)
        self._patient = Budget(
            max(1, settings.max_queue // PATIENT_SHARE), max(1, settings.max_queue_pixels // PATIENT_SHARE)
        )

    @property
    def taken(self) -> int:
        """Count the images in work."""
        return self._single.taken + self._patient.taken

    @asynccontextmanager
    async def hold(self, pixels: int, *, patient: bool, seconds: float) -> AsyncIterator[None]:
        """Hold room for an image.

        Args:
            patient: Wait until there is some.
            seconds: That an image takes, to say when there may be room.

        Raises:
            QueueFull: There is none, and it is not waited for.
        """
        if patient:
            async with self._patient.await_room(pixels):
                yield
            return
        if not self._single.fits(pixels):
            raise QueueFull(max(1, math.ceil(self.taken * seconds)))
        with self._single.take(pixels):
            yield
