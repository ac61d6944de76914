"""Crafting in this process."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack

from withhold.online.protector import Protector, Released
from withhold.online.service.batcher import Batcher
from withhold.online.service.budget import Budget
from withhold.online.service.crafting import About, QueueFull
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.uploads import pixels_of
from withhold.online.settings import SpeedName

DECODERS = 2
"""Threads that decode."""

PATIENT_SHARE = 4
"""The images that wait for room have a room of their own, of this part of the queue, so that no image starves."""


class LocalCrafting:
    """A protector in this process as `Crafting`. Used from one event loop.

    Attributes:
        about: The protector behind it.
    """

    def __init__(
        self, protector: Protector, settings: ServiceSettings, on_batch: Callable[[int], None] = lambda _: None
    ) -> None:
        self.about = About.of(protector.document, protector.bound)
        self._protector = protector
        self._most_pixels = settings.max_pixels
        self._single = Budget(settings.max_queue, settings.max_queue_pixels)
        self._patient = Budget(
            max(1, settings.max_queue // PATIENT_SHARE), max(1, settings.max_queue_pixels // PATIENT_SHARE)
        )
        self._decoders = ThreadPoolExecutor(DECODERS, "withhold-decoding")
        self._batcher = Batcher(
            lambda images, speed: protector.protect_accepted(images, speed=speed),
            max_batch=settings.max_batch or self.about.lanes,
            max_wait=settings.max_wait_ms / 1000,
            on_batch=on_batch,
        )

    async def protect(self, content: bytes, label: str | None, speed: SpeedName, *, patient: bool = False) -> Released:
        """Protect an image; see `Crafting`."""
        pixels = pixels_of(content, self._most_pixels)
        async with AsyncExitStack() as room:
            if patient:
                await room.enter_async_context(self._patient.await_room(pixels))
            else:
                room.enter_context(self._room_now(pixels))
            loop = asyncio.get_running_loop()
            accepted = await loop.run_in_executor(self._decoders, self._protector.accept, content, label)
            return await self._batcher.submit(accepted, speed)

    def waiting(self) -> int:
        """Count the images that wait or are crafted."""
        return self._single.taken + self._patient.taken

    async def check(self) -> None:
        """Return: what computes is in this process."""

    async def close(self) -> None:
        """End, after what is being crafted."""
        await self._batcher.close()
        self._decoders.shutdown(wait=False)

    def _room_now(self, pixels: int) -> AbstractContextManager[None]:
        """Hold room in the queue.

        Raises:
            QueueFull: There is none.
        """
        if not self._single.fits(pixels):
            raise QueueFull(max(1, math.ceil(self.waiting() * self._batcher.seconds)))
        return self._single.take(pixels)
