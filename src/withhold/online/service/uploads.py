"""Images as they arrive: told by their bytes, and bounded before anything is decoded."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from withhold.data.pixels import FORMATS, UnreadableImage
from withhold.errors import InvalidInput
from withhold.online.labels import index_of

LONGEST_LABEL = 200
MOST_READS = 10_000
"""Reads within which an image states its size; a photograph full of metadata takes some hundred."""


class UnknownKind(UnreadableImage):
    """The bytes are no image of a supported kind."""


class TooManyPixels(UnreadableImage):
    """An image is larger than may be decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """An image as a client sent it.

    Attributes:
        content: The file.
        label: Name of a class, or None if the surrogate is to decide.
        sha256: Of `content`.
        pixels: By the header of `content`.
    """

    content: bytes
    label: str | None
    sha256: str
    pixels: int

    @classmethod
    def of(cls, content: bytes, label: str | None, most: int) -> "Upload":
        """Count the pixels of an image and hash it, which takes its time: call it in a thread.

        Args:
            most: Pixels.

        Raises:
            UnreadableImage: As `pixels_of` raises.
        """
        pixels = pixels_of(content, most)
        return cls(content, label, hashlib.sha256(content).hexdigest(), pixels)


def pixels_of(content: bytes, most: int) -> int:
    """Count the pixels of an image by its header; the kind is told by its bytes, and nothing is decoded.

    Raises:
        UnknownKind: It is of no supported kind.
        TooManyPixels: There are more than `most`.
        UnreadableImage: There are no bytes, or the header is broken or does not end.
    """
    if not content:
        msg = "the image is empty, 0 bytes; send the file itself"
        raise UnreadableImage(msg)
    try:
        with Image.open(_Header(content), formats=FORMATS) as image:
            width, height = image.size
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        msg = f"The {len(content)} bytes are no image of a known kind, or end in its header. Send one of {known}."
        raise UnknownKind(msg) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels(f"The image has more than {most} pixels. Scale it down.") from None
    except Exception as error:  # on malformed bytes Pillow's decoders raise nearly anything
        msg = "the header of the image is broken"
        raise UnreadableImage(msg) from error
    if width * height > most:
        raise TooManyPixels(f"At most {most} pixels are taken, the image has {width} x {height}. Scale it down.")
    return width * height


def label_named(text: str, classes: Sequence[str]) -> str | None:
    """Read a label, the name of a class or its index; nothing is no label.

    Raises:
        InvalidInput: There is no such class.
    """
    if not text:
        return None
    if len(text) > LONGEST_LABEL:
        msg = f"a label has at most {LONGEST_LABEL} characters, this one has {len(text)}"
        raise InvalidInput(msg)
    if text in classes:
        return text
    return classes[index_of(int(text) if text.isascii() and text.isdigit() else text, classes)]


class _Header(io.BytesIO):
    """A file that refuses to be read without end: of most kinds a header may have as many parts as fit into it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads > MOST_READS:
            msg = "the header of the image has more parts than are read; save the image anew, without metadata"
            raise UnreadableImage(msg)
        return super().read(size)
