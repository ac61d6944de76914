"""Tools that some tests need: where one is missing they are skipped, and in continuous integration they fail."""

import importlib
import os
import warnings
from typing import Any, Never

import pytest

VARIABLE = "WITHHOLD_CI"
"""Environment variable that says that every tool should be there."""


def missing(tool: str) -> Never:
    """Skip the test, or fail it, for a tool that is not here."""
    if os.environ.get(VARIABLE):
        pytest.fail(f"{tool}, and {VARIABLE} says that it should be here")
    pytest.skip(tool)


def needs(found: object, tool: str) -> pytest.MarkDecorator:
    """Mark tests that need a tool; in continuous integration they run without it, and fail."""
    return pytest.mark.skipif(not found and not os.environ.get(VARIABLE), reason=f"no {tool} on this machine")


def package(name: str) -> Any:  # noqa: ANN401 - a module
    """Import a package of an extra."""
    if os.environ.get(VARIABLE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a package of others deprecates, as pytest's own function does
            return importlib.import_module(name)
    return pytest.importorskip(name)
