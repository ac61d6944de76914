"""The images of an evaluation in memory: each set read once, and no test image among the training images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from withhold.data.arrays import Pixels, Prepare, centre_crop, pixel_digest, read_arrays
from withhold.data.pixels import Picture
from withhold.errors import InvalidInput, RunStopped
from withhold.evaluation.competitor import Labelled
from withhold.evaluation.matching import Chosen, Part
from withhold.networks.choose import Views
from withhold.seeds import derive_seed

STORED_SHARE = 8 / 7
"""Side at which large images are held, as a multiple of the networks' input: 256 for 224."""

HELD_BYTES = 16 << 30
"""Most pixels that are held in memory, of all sets together."""


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """All images of an evaluation in memory, as the networks get them; training sets at the side they are stored at.

    Attributes:
        noise: The originals under random noise of the bound's size.
        clean: Empty if the competitor's own images are to be drawn from the originals.
        side: Of the networks' input; the test images have it.
        digests: SHA-256 of each set's pixels and labels.
    """

    classes: tuple[str, ...]
    original: Labelled
    noise: Labelled
    released: Labelled
    test: Labelled
    clean: Labelled
    side: int
    digests: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """Images of a part as they were read.

    Attributes:
        digests: SHA-256 of each one's pixels before it was resized.
        sizes: Width and height of each file's picture.
    """

    part: Part
    what: str
    images: Labelled
    digests: tuple[bytes, ...]
    sizes: tuple[tuple[int, int], ...]


def load_sets(chosen: Chosen, side: int, views: Views, bound: int, seed: int) -> Sets:
    """Read all images.

    Raises:
        InvalidInput: A test image is also a training image, or an image cannot be read.
    """
    return read_sets(chosen, side, views, bound, seed)[0]


def read_sets(chosen: Chosen, side: int, views: Views, bound: int, seed: int) -> tuple[Sets, dict[str, Read]]:
    """Read all images, and tell what was read: originals, release and test set by the names of their fields.

    Args:
        side: Of the networks' input.
        views: `native` if they see whole images, which then have this side; `crop` for random parts of larger ones.
        bound: Levels of the random noise of the control.

    Raises:
        InvalidInput: A test image is also a training image, or an image cannot be read.
    """
    stored = side if views == "native" else round(side * STORED_SHARE)
    check_memory((chosen.original, chosen.original, chosen.released, chosen.test, chosen.clean), stored)
    whole = _square(stored, 1.0)
    tested = whole if views == "native" else centre_crop(side)
    original = read_part(chosen.original, "the originals", stored, whole)
    released = read_part(chosen.released, "the release", stored, whole)
    test = read_part(chosen.test, "the test set", side, tested)
    refuse_overlap(test, (original, released), "the training set")
    disturbed = _with_noise(whole, bound)
    noise = read_part(chosen.original, "the originals", stored, disturbed, seed=derive_seed(seed, "noise control"))
    clean = original.images.take(torch.arange(0))
    if chosen.clean is not None:
        own = read_part(chosen.clean, "the competitor's clean images", stored, whole)
        refuse_overlap(own, (test,), "the test set")
        clean = own.images
    parts = {
        "original": original.images,
        "noise": noise.images,
        "released": released.images,
        "test": test.images,
        "clean": clean,
    }
    digests = {name: digest(part) for name, part in parts.items()}
    sets = Sets(chosen.classes, side=side, digests=digests, **parts)
    return sets, {"original": original, "released": released, "test": test}


def check_memory(parts: Sequence[Part | None], stored: int) -> None:
    """Refuse more images than are held in memory.

    Args:
        stored: Side at which they are held.

    Raises:
        InvalidInput: There are more; the message says how to use fewer.
    """
    needed = sum(len(part) for part in parts if part is not None) * 3 * stored**2
    if needed > HELD_BYTES:
        msg = (
            f"these images take {needed / 2**30:.0f} GiB of memory at {stored} x {stored}; at most "
            f"{HELD_BYTES / 2**30:.0f} GiB are used. Evaluate on a part of each class (--per-class), or at a smaller "
            "--input-size"
        )
        raise InvalidInput(msg)


def _square(side: int, share: float) -> Prepare:
    resized = centre_crop(side, share)

    def prepare(pixels: Pixels, draw: npt.NDArray[np.float64]) -> Pixels:
        return pixels if pixels.shape[:2] == (side, side) else resized(pixels, draw)

    return prepare


def _with_noise(prepare: Prepare, bound: int) -> Prepare:
    """Change every channel of every pixel by `bound` levels up or down, at random, before an image is resized."""

    def disturbed(pixels: Pixels, draw: npt.NDArray[np.float64]) -> Pixels:
        generator = np.random.default_rng((draw * 2**53).astype(np.uint64))
        signs = generator.choice([-1.0, 1.0], size=pixels.transpose(2, 0, 1).shape)
        return prepare(Picture(pixels).perturbed(signs, bound).levels, draw)

    return disturbed


def read_part(part: Part, what: str, side: int, prepare: Prepare | None = None, *, seed: int = 0) -> Read:
    """Read images at one size, with what is needed to find out whether some of them are in two sets.

    Args:
        what: Name of the set in messages.
        side: Of the images as they are held.
        prepare: Makes them squares of this side; if absent the whole image is.
        seed: Of the draws that `prepare` gets.

    Raises:
        InvalidInput: An image cannot be read.
    """
    make = prepare or _square(side, 1.0)

    def hashed(pixels: Pixels, draw: npt.NDArray[np.float64]) -> tuple[Pixels, bytes, tuple[int, int]]:
        return make(pixels, draw), pixel_digest(pixels), (pixels.shape[1], pixels.shape[0])

    images = np.empty((len(part), side, side, 3), np.uint8)
    digests, sizes = [], []
    draws = np.random.default_rng(seed).random((len(part), 5))
    try:
        for index, (pixels, found, size) in enumerate(read_arrays(part.dataset, part.entries, hashed, draws)):
            images[index] = pixels
            digests.append(found)
            sizes.append(size)
    except RunStopped as error:
        msg = f"an image of {what} is unusable: {error}"
        raise InvalidInput(msg) from error
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Read(part, what, Labelled(tensor, torch.from_numpy(part.labels)), tuple(digests), tuple(sizes))


def refuse_overlap(these: Read, others: Sequence[Read], that: str) -> None:
    """Refuse images that are also in other sets, pixel by pixel.

    Args:
        that: Name of the other sets together, in the message.

    Raises:
        InvalidInput: Some are.
    """
    known = {found for other in others for found in other.digests}
    shared = [index for index, found in enumerate(these.digests) if found in known]
    if shared:
        msg = (
            f"{len(shared)} images of {these.what} are also in {that}, such as {these.part.entries[shared[0]].name}, "
            "so the measured accuracy would lie; take them out. Where one dataset holds both, use --splits and "
            "--test-splits."
        )
        raise InvalidInput(msg)


def digest(part: Labelled) -> str:
    """Return the SHA-256 of a set's pixels and labels, in hexadecimal digits."""
    found = hashlib.sha256(repr(tuple(part.images.shape)).encode())
    for tensor in (part.images, part.labels):
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()
