"""Crafting in this process."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from withhold.online.protector import Protector, Released
from withhold.online.service.batcher import Batcher
from withhold.online.service.crafting import About
from withhold.online.service.queue_limits import QueueLimits
from withhold.online.service.settings import ServiceSettings
from withhold.online.service.uploads import Upload
from withhold.online.settings import SpeedName

DECODERS = 2
"""Threads that decode."""


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
        self._limits = QueueLimits(settings)
        self._decoders = ThreadPoolExecutor(DECODERS, "withhold-decoding")
        self._batcher = Batcher(
            lambda images, speed: protector.protect_each(images, speed=speed),
            max_batch=settings.max_batch or self.about.lanes,
            max_wait=settings.max_wait_ms / 1000,
            on_batch=on_batch,
        )

    async def protect(self, upload: Upload, speed: SpeedName, *, patient: bool = False) -> Released:
        """Protect an image; see `Crafting`."""
        async with self._limits.admit(upload.pixels, patient=patient, seconds=self._batcher.needed.seconds):
            loop = asyncio.get_running_loop()
            accepted = await loop.run_in_executor(self._decoders, self._protector.accept, upload.content, upload.label)
            return await self._batcher.submit(accepted, speed)

    def waiting(self) -> int:
        """Count the images that wait or are crafted."""
        return self._limits.taken

    async def check(self) -> None:
        """Return: what computes is in this process."""

    async def close(self) -> None:
        """End, after what is being crafted."""
        await self._batcher.close()
        self._decoders.shutdown(wait=False)
