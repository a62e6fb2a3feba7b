"""Names that a package offers and loads when they are first used, so that importing it takes no time (PEP 562)."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any


def load_name(package: str, face: Mapping[str, str], name: str) -> Any:
    """Returns what a package offers under a name, which is found without this function from then on.

    Args:
      package: its `__name__`.
      face: by name, the module below the package that has it.
      name: that was asked for.

    Raises:
      AttributeError: the package offers no such name.
    """
    if name not in face:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{package}.{face[name]}"), name)
    setattr(sys.modules[package], name, value)
    return value
