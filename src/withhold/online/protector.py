"""One image at a time: what a platform calls in its upload path."""

import hashlib
import hmac
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from withhold.data.pixels import Lossless, Picture, change, decode, encode, levels, storable
from withhold.data.quality import psnr
from withhold.errors import InvalidInput, RunStopped
from withhold.online.folder import Document
from withhold.online.image import Accepted, Given, Unchangeable, read, shape_and_levels
from withhold.online.labels import index_of
from withhold.online.lanes import LaneCrafter, Task
from withhold.online.loading import load
from withhold.online.settings import DEFAULT_SPEED, SPEEDS, SpeedName
from withhold.progress import SILENT, Reporter
from withhold.release.environment import Environment, reproducing

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "tiff": "image/tiff"}


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """A protected image.

    Attributes:
        content: The file to publish, lossless.
        picture: The same, decoded.
        label: Name of the class that it was protected as.
        label_was_given: Otherwise it is what the surrogate takes the image for.
        largest_change: Of any channel, in levels of 8 bit.
        psnr: In dB.
        sha256_before: Of the bytes that were given, or of the levels of an image object or array.
        sha256_after: Of `content`.
        seconds: Wall time from the call to the result, with all images of the call.
        protector: Fingerprint of the protector.
    """

    content: bytes
    media_type: str
    picture: Picture
    label: str
    label_was_given: bool
    speed: SpeedName
    largest_change: float
    psnr: float
    sha256_before: str
    sha256_after: str
    seconds: float
    protector: str


class Protector:
    """Protects images one by one; see `load`.

    The result depends on the key, the picture's levels, its label and the speed, and on nothing else: not on the other
    images of a call, their number or order, nor on what was protected before. Safe to use from several threads, of
    which one crafts at a time.

    Attributes:
        document: What the protector says about itself.
        classes: Names of the labels.
        differences: How this machine is unlike the one that the protector was prepared on, where that may change bits.
    """

    def __init__(self, document: Document, key: bytes, crafter: LaneCrafter, differences: Sequence[str] = ()) -> None:
        self.document = document
        self.classes = document.classes
        self.differences = tuple(differences)
        self._key = key
        self._crafter = crafter
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: str | None = None,
        allow_differences: bool = False,
        reporter: Reporter = SILENT,
    ) -> "Protector":
        """Load what `withhold online prepare` wrote.

        Args:
            device: To compute on; what the protector was prepared on if absent.
            allow_differences: Go on where PyTorch's version or the type of device is another one. The images are
                protected all the same, but come out differently than before.

        Raises:
            InvalidInput: There is no protector; files of it are missing or changed, which are named; or it computes
                differently here.
        """
        loaded = load(Path(folder), device=device, allow_differences=allow_differences, reporter=reporter)
        return cls(loaded.document, loaded.key, loaded.crafter, loaded.differences)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that the protector consists of."""
        return self.document.fingerprint

    @property
    def device(self) -> str:
        """Type of the device that it computes on: `cpu`, `cuda` or `mps`."""
        return self._crafter.crafter.device.type

    @property
    def bound(self) -> int:
        """Largest change of a channel, in levels of 8 bit."""
        return levels(self.document.settings.eps)

    def protect(self, image: Given, label: str | int | None = None, *, speed: SpeedName = DEFAULT_SPEED) -> Released:
        """Protect an image.

        Args:
            image: Bytes of a file, the path of one, an image object of Pillow, or levels (h, w, 3 or 1), uint8.
            label: What it shows: name of a class, or its index. What the surrogate takes it for if absent.
            speed: `full`, `quick` or `instant`.

        Raises:
            UnreadableImage: It is no complete still picture of a supported kind.
            InvalidInput: The label or the speed is unknown, or there is no such file.
            Unchangeable: Nothing of it can be changed.
            RunStopped: The result is not fit to be released.
        """
        return self.protect_accepted([self.accept(image, label)], speed=speed)[0]

    def protect_many(
        self,
        images: Sequence[Given],
        labels: Sequence[str | int | None] | None = None,
        *,
        speed: SpeedName = DEFAULT_SPEED,
    ) -> list[Released]:
        """Protect images; each comes out as `protect` would give it.

        Raises:
            UnreadableImage: One cannot be read; the message says which. None is protected.
            InvalidInput: There are as many labels as images, or none; and as `protect` raises.
            RunStopped: As `protect` raises.
        """
        given = list(labels) if labels is not None else [None] * len(images)
        if len(given) != len(images):
            msg = f"one label belongs to each image; got {len(given)} labels for {len(images)} images"
            raise InvalidInput(msg)
        accepted = []
        for number, (image, label) in enumerate(zip(images, given, strict=True)):
            try:
                accepted.append(self.accept(image, label))
            except InvalidInput as error:
                raise type(error)(f"image {number} of {len(images)}: {error}") from error
        return self.protect_accepted(accepted, speed=speed)

    def accept(self, image: Given, label: str | int | None = None) -> Accepted:
        """Decode an image and check its label, so that nothing about it is refused later; see `protect`."""
        index = None if label is None else index_of(label, self.classes)
        picture, digest = read(image)
        return Accepted(picture, index, digest)

    def protect_accepted(self, images: Sequence[Accepted], *, speed: SpeedName = DEFAULT_SPEED) -> list[Released]:
        """Protect images that `accept` gave.

        Raises:
            InvalidInput: The speed is unknown.
            Unchangeable: Nothing of an image can be changed.
            RunStopped: A result is not fit to be released.
        """
        if speed not in SPEEDS:
            msg = f"unknown speed {speed!r}; expected one of {', '.join(SPEEDS)}"
            raise InvalidInput(msg)
        began = time.perf_counter()
        found = iter(self.recognise([image.picture for image in images if image.label is None]))
        labels = [next(found) if image.label is None else image.label for image in images]
        deltas = self.craft([image.picture for image in images], labels, speed)
        files = [self._file(image.picture, delta) for image, delta in zip(images, deltas, strict=True)]
        seconds = time.perf_counter() - began
        return [
            Released(
                content=content,
                media_type=media_type,
                picture=picture,
                label=self.classes[label],
                label_was_given=image.label is not None,
                speed=speed,
                largest_change=float(change(image.picture, picture).max()),
                psnr=psnr(image.picture, picture),
                sha256_before=image.sha256,
                sha256_after=hashlib.sha256(content).hexdigest(),
                seconds=seconds,
                protector=self.fingerprint,
            )
            for image, label, (content, media_type, picture) in zip(images, labels, files, strict=True)
        ]

    def protect_each(
        self, images: Sequence[Accepted], *, speed: SpeedName = DEFAULT_SPEED
    ) -> list[Released | Exception]:
        """Protect images that `accept` gave; what goes wrong with one costs no other.

        Returns:
            For each image what was released, or the error that `protect_accepted` raises for it alone.
        """
        try:
            return [*self.protect_accepted(images, speed=speed)]
        except Exception as error:
            if len(images) == 1:
                return [error]
            return [each for image in images for each in self.protect_each([image], speed=speed)]

    def craft(
        self, pictures: Sequence[Picture], labels: Sequence[int], speed: SpeedName, *, steps: int | None = None
    ) -> list[np.ndarray]:
        """Return the perturbation of each picture, (c, h, w), as a fraction of the pixel range, before rounding.

        Args:
            steps: In place of the speed's own, for an estimate of the time.
        """
        tasks = [
            Task(picture, label, self._seed(picture, label, speed))
            for picture, label in zip(pictures, labels, strict=True)
        ]
        chosen = self.document.speeds[speed]
        if steps is not None:
            chosen = chosen.model_copy(update={"steps": steps})
        with self._computing():
            return self._crafter.perturbations(tasks, chosen)

    def recognise(self, pictures: Sequence[Picture]) -> list[int]:
        """Return the class index that the surrogate takes each picture for."""
        with self._computing():
            return self._crafter.labels(pictures)

    def losses(self, pictures: Sequence[Picture], labels: Sequence[int]) -> list[float]:
        """Return the crafting objective of each picture as it is; lower is better protected."""
        with self._computing():
            return self._crafter.losses([Task(*pair) for pair in zip(pictures, labels, strict=True)])

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Be the only thread that crafts, with as many threads to an operation as when the protector was prepared."""
        document = self.document
        with self._lock, reproducing(Environment(document.torch, self.device, document.threads)):
            yield

    def _seed(self, picture: Picture, label: int, speed: SpeedName) -> int:
        """Derive the seed of an image's draws: nobody without the key can repeat them, and with it anybody can."""
        message = f"{speed}/{label}/".encode() + shape_and_levels(picture)
        return int.from_bytes(hmac.digest(self._key, message, "sha256")[:8], "big") >> 1

    def _file(self, before: Picture, delta: np.ndarray) -> tuple[bytes, str, Picture]:
        """Round, encode and decode again; what leaves the protector was checked as its receiver will see it.

        Raises:
            Unchangeable: There is no change.
            RunStopped: It is not finite, or beyond the bound.
        """
        if not np.isfinite(delta).all():
            msg = "crafting gave numbers that are not finite; check the protector's surrogate"
            raise RunStopped(msg)
        after = before.perturbed(delta, self.bound)
        lossless = self.document.settings.lossless
        chosen: Lossless = lossless if storable(after, lossless) else "png"
        content = encode(after, chosen)
        decoded = decode(content)
        largest = change(before, decoded).max()
        if largest == 0:
            height, width = before.levels.shape[:2]
            msg = (
                f"no pixel of this image of {width} x {height} could be changed, as it happens to tiny images and to "
                "those that are all black or white, so it is not protected; give a larger picture"
            )
            raise Unchangeable(msg)
        if largest > self.bound or decoded.mode != before.mode:
            msg = (
                f"an image of mode {before.mode} came out as {decoded.mode} with a largest change of {largest:g} "
                f"levels, and may change by {self.bound}; it is not released"
            )
            raise RunStopped(msg)
        return content, MEDIA_TYPES[chosen], decoded
