"""The little of a file's metadata that is carried into the release: Orientation, Artist and Copyright."""

from PIL import Image

_ORIENTATION, _ARTIST, _COPYRIGHT = 0x0112, 0x013B, 0x8298


def carried_exif(image: Image.Image) -> bytes | None:
    """Keep those three tags, as EXIF bytes; None if there are none.

    To be read after `load`, because Pillow turns a TIFF upright while loading and then forgets its Orientation.
    """
    try:
        source = image.getexif()
    except Exception:  # broken metadata around whole pixels is common, and none of it would be carried
        return None
    kept = Image.Exif()
    for tag, kind in ((_ORIENTATION, int), (_ARTIST, str), (_COPYRIGHT, str)):
        if isinstance(value := source.get(tag), kind):
            kept[tag] = value
    return kept.tobytes() if len(kept) else None


def without_orientation(exif: bytes | None) -> bytes | None:
    """Drop the one tag that would make Pillow rotate the pixels of a TIFF while reading it."""
    if exif is None:
        return None
    kept = Image.Exif()
    kept.load(exif)
    kept.pop(_ORIENTATION, None)
    return kept.tobytes() if len(kept) else None
