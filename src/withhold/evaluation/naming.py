"""Looking things up by the names that users give."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from withhold.errors import InvalidInput

Item = TypeVar("Item")


def look_up(name: str, table: Mapping[str, Item], kind: str) -> Item:
    """Find a name in a table.

    Args:
        kind: What the table holds, for the message.

    Raises:
        InvalidInput: There is none of this name; the message lists those that there are.
    """
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0)[0]
        msg = f"there is no {kind} {name!r}; the nearest is {near!r}. There are {', '.join(table)}."
        raise InvalidInput(msg)
    return table[name]
