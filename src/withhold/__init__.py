"""Publish your images; withhold their training value.

    from pathlib import Path
    from withhold import ProtectSettings, protect, verify

    protect(Path("photos"), Path("released"), ProtectSettings())
    verify(Path("photos"), Path("released"))

The crafting core works alone, on tensors:

    from withhold.craft import ClassTargeted, Linf, craft
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from withhold import craft
    from withhold.craft import Alignment as Alignment
    from withhold.craft import ClassTargeted as ClassTargeted
    from withhold.craft import Linf as Linf
    from withhold.errors import WithholdError as WithholdError
    from withhold.release.run import protect as protect
    from withhold.release.settings import ProtectSettings as ProtectSettings
    from withhold.release.show import show as show
    from withhold.release.verify import verify as verify

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "ClassTargeted",
    "Linf",
    "ProtectSettings",
    "WithholdError",
    "__version__",
    "craft",
    "protect",
    "show",
    "verify",
]

_HOMES = {
    "Alignment": "withhold.craft",
    "ClassTargeted": "withhold.craft",
    "Linf": "withhold.craft",
    "ProtectSettings": "withhold.release.settings",
    "WithholdError": "withhold.errors",
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
