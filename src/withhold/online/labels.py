"""Labels as people give them."""

import difflib
from collections.abc import Sequence

from withhold.errors import InvalidInput


def index_of(label: str | int, classes: Sequence[str]) -> int:
    """Find the index of a label, the name of a class or its index.

    Raises:
        InvalidInput: There is no such class; the nearest ones are named.
    """
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return label
    near = difflib.get_close_matches(str(label), classes, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the first is {classes[0]!r}."
    msg = f"unknown label {label!r}: the protector knows {len(classes)} classes by name or index; {hint}"
    raise InvalidInput(msg)
