"""The images of an evaluation in memory: each set read once, and no test image among the training images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from withhold.data.arrays import Pixels, Prepare, centre_crop, read_arrays
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


def load_sets(chosen: Chosen, side: int, views: Views, bound: int, seed: int) -> Sets:
    """Read all images.

    Args:
        side: Of the networks' input.
        views: `native` if they see whole images, which then have this side; `crop` for random parts of larger ones.
        bound: Levels of the random noise of the control.

    Raises:
        InvalidInput: A test image is also a training image, or an image cannot be read.
    """
    stored = side if views == "native" else round(side * STORED_SHARE)
    _check_memory(chosen, stored)
    whole = _square(stored, 1.0)
    tested = whole if views == "native" else centre_crop(side)
    original, known = _read(chosen.original, "the originals", whole, stored)
    released, published = _read(chosen.released, "the release", whole, stored)
    test, unseen = _read(chosen.test, "the test set", tested, side)
    _check_disjoint(chosen, known, published, unseen)
    noise, _ = _read(
        chosen.original, "the originals", _with_noise(whole, bound), stored, seed=derive_seed(seed, "noise control")
    )
    clean = Labelled(original.images[:0], original.labels[:0])
    if chosen.clean is not None:
        clean, own = _read(chosen.clean, "the competitor's clean images", whole, stored)
        _refuse_overlap(chosen.clean, own, set(unseen), "the competitor's clean images", "the test set")
    sets = {"original": original, "noise": noise, "released": released, "test": test, "clean": clean}
    digests = {name: _digest(part) for name, part in sets.items()}
    return Sets(chosen.classes, original, noise, released, test, clean, side, digests)


def _check_memory(chosen: Chosen, stored: int) -> None:
    parts = (chosen.original, chosen.original, chosen.released, chosen.test, chosen.clean)
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


def _read(part: Part, what: str, prepare: Prepare, side: int, *, seed: int = 0) -> tuple[Labelled, list[bytes]]:
    """Read images with the digest of each one's pixels before it is resized."""

    def hashed(pixels: Pixels, draw: npt.NDArray[np.float64]) -> tuple[Pixels, bytes]:
        digest = hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()
        return prepare(pixels, draw), digest

    images = np.empty((len(part), side, side, 3), np.uint8)
    digests = []
    draws = np.random.default_rng(seed).random((len(part), 5))
    try:
        for index, (pixels, digest) in enumerate(read_arrays(part.dataset, part.entries, hashed, draws)):
            images[index] = pixels
            digests.append(digest)
    except RunStopped as error:
        msg = f"an image of {what} is unusable: {error}"
        raise InvalidInput(msg) from error
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Labelled(tensor, torch.from_numpy(part.labels)), digests


def _check_disjoint(
    chosen: Chosen, known: Sequence[bytes], published: Sequence[bytes], unseen: Sequence[bytes]
) -> None:
    _refuse_overlap(chosen.test, unseen, {*known, *published}, "the test set", "the training set")


def _refuse_overlap(part: Part, digests: Sequence[bytes], others: set[bytes], this: str, that: str) -> None:
    shared = [index for index, digest in enumerate(digests) if digest in others]
    if shared:
        msg = (
            f"{len(shared)} images of {this} are also in {that}, such as {part.entries[shared[0]].name}, so the "
            "measured accuracy would lie; take them out. Where one dataset holds both, use --splits and --test-splits."
        )
        raise InvalidInput(msg)


def _digest(part: Labelled) -> str:
    digest = hashlib.sha256(repr(tuple(part.images.shape)).encode())
    for tensor in (part.images, part.labels):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
