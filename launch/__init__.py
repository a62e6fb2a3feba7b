"""A study's cells, on machines."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launch.options import Options
    from launch.running import Result, run

# `python -m launch.…` looks for all modules in the working directory first, where a file may have any name; it begins
# with this one. Where the folder is that of this package, processes that are started in others find it there, too.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    _root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  (before other modules)
    if os.path.realpath(sys.path[0]) == os.path.realpath(_root):
        os.environ["PYTHONPATH"] = os.pathsep.join([_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    else:
        del sys.path[0]

from scaling.specs.lazy import load_name

# What a script or a notebook needs, by the module that has it, loaded when first used. See docs/python.md.
FACE = {"run": "running", "Result": "running", "Options": "options"}

__all__ = list(FACE)


def __getattr__(name: str) -> Any:
    return load_name(__name__, FACE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FACE})
