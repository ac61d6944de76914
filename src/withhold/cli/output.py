"""How the command line hands over results: on stdout, nothing else goes there."""

import json
import os
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from withhold.data.object_path import ObjectPath
from withhold.errors import RunStopped


def emit(text: str) -> None:
    """Print a result on stdout, now.

    Raises:
        BrokenPipeError: Nobody reads any more.
        RunStopped: stdout takes no more, for instance because the disk under it is full.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise RunStopped(f"the result could not be written to standard output: {error.strerror}") from None


def discard_output() -> None:
    """Send what is still buffered for stdout nowhere, so that the interpreter's exit is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_json(result: Mapping[str, Any]) -> str:
    """Write a result as one JSON document.

    Raises:
        TypeError: A field has a type without a stated form in JSON.
    """
    return json.dumps(result, indent=2, ensure_ascii=False, default=_plain, allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a result holds
    if isinstance(value, Fraction | Path | ObjectPath):
        return str(value)
    if hasattr(value, "item"):  # a numpy number
        return value.item()
    msg = f"no JSON form for {type(value).__name__}"
    raise TypeError(msg)
