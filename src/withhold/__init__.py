"""Publish your images; withhold their training value.

    from pathlib import Path
    from withhold import evaluate, protect, verify

    protect(Path("photos"), Path("released"))
    verify(Path("photos"), Path("released"))
    evaluate(Path("photos"), Path("released"), Path("test-photos"), Path("report"))

One image at a time, with what `withhold online prepare` wrote:

    from withhold import Protector

    released = Protector.load("protector").protect("me.jpg", "cat")

The crafting core works alone, on tensors:

    from withhold.craft import ClassTargeted, Linf, craft
"""

import importlib
from typing import TYPE_CHECKING, Any

from withhold.version import __version__

if TYPE_CHECKING:
    from withhold import craft
    from withhold.errors import WithholdError as WithholdError
    from withhold.evaluation.run import evaluate as evaluate
    from withhold.evaluation.settings import EvaluateSettings as EvaluateSettings
    from withhold.online.protector import Protector as Protector
    from withhold.release.run import protect as protect
    from withhold.release.settings import ProtectSettings as ProtectSettings
    from withhold.release.show import show as show
    from withhold.release.verify import verify as verify

__all__ = [
    "EvaluateSettings",
    "ProtectSettings",
    "Protector",
    "WithholdError",
    "__version__",
    "craft",
    "evaluate",
    "protect",
    "show",
    "verify",
]

_HOMES = {
    "EvaluateSettings": "withhold.evaluation.settings",
    "ProtectSettings": "withhold.release.settings",
    "Protector": "withhold.online.protector",
    "WithholdError": "withhold.errors",
    "evaluate": "withhold.evaluation.run",
    "protect": "withhold.release.run",
    "show": "withhold.release.show",
    "verify": "withhold.release.verify",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes have any type
    """Import a public name when it is first used, so that `import withhold` stays quick and needs no PyTorch."""
    if name == "craft":
        return importlib.import_module("withhold.craft")
    if name not in _HOMES:
        msg = f"module 'withhold' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
