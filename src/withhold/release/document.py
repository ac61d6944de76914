"""`release.json`: what may be public about a release, and nothing that helps to undo it."""

import json
from dataclasses import dataclass
from fractions import Fraction

from withhold.data.atomic import write_atomic
from withhold.data.dataset import RELEASE_DOCUMENT
from withhold.data.pixels import parse_eps
from withhold.data.place import Place
from withhold.errors import InvalidInput
from withhold.version import __version__

NAME = RELEASE_DOCUMENT


@dataclass(frozen=True, slots=True)
class ReleaseDocument:
    """The public facts: the bound, the number of images and of classes, and the layout.

    Attributes:
        unchanged: Released names of those that show no face and are released as they were, sorted.
    """

    eps: Fraction
    images: int
    classes: int
    layout: str
    unchanged: tuple[str, ...] = ()


def write_document(folder: Place, document: ReleaseDocument) -> None:
    """Store the facts in a release."""
    content: dict[str, str | int | list[str]] = {
        "tool": "withhold",
        "version": __version__,
        "eps": str(document.eps),
        "images": document.images,
        "classes": document.classes,
        "layout": document.layout,
    }
    if document.unchanged:
        content["unchanged"] = list(document.unchanged)
    write_atomic(folder / NAME, (json.dumps(content, indent=1) + "\n").encode())


def read_document(folder: Place) -> ReleaseDocument | None:
    """Read the facts of a release; None if it states none.

    Raises:
        InvalidInput: The file is there and is not what `write_document` writes.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        return ReleaseDocument(
            parse_eps(content["eps"]),
            int(content["images"]),
            int(content["classes"]),
            str(content["layout"]),
            tuple(map(str, content.get("unchanged", []))),
        )
    except (ValueError, KeyError, TypeError, InvalidInput) as error:
        msg = f"{path} is not the release.json of a release ({error}); restore it, or give the bound with --eps."
        raise InvalidInput(msg) from error
