"""Limits on the images that wait or are crafted: one for single requests, and one for requests that wait."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from withhold.online.service.budget import Budget
from withhold.online.service.crafting import QueueFull
from withhold.online.service.settings import ServiceSettings

PATIENT_SHARE = 4
"""The images that are not refused have limits of their own, this part of the others, so that no image starves."""


class QueueLimits:
    """Bounds how many images are in work at a time, and their pixels together. Used from one event loop."""

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
    async def admit(self, pixels: int, *, patient: bool, seconds: float) -> AsyncIterator[None]:
        """Count an image as in work.

        Args:
            patient: Wait until the limits allow it, rather than refuse it.
            seconds: That an image takes, to say when to try again.

        Raises:
            QueueFull: The limits do not allow it, and it is not to wait.
        """
        if patient:
            async with self._patient.await_room(pixels):
                yield
            return
        if not self._single.fits(pixels):
            raise QueueFull(max(1, math.ceil(self.taken * seconds)))
        with self._single.take(pixels):
            yield
