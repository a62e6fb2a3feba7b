"""A study's cells, on machines."""

import os
import sys

# `python -m launch.…` looks for all modules in the working directory first, where a file may have any name; it begins
# with this one. Where the folder is that of this package, processes that are started in others find it there, too.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    _root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  (before other modules)
    if os.path.realpath(sys.path[0]) == os.path.realpath(_root):
        os.environ["PYTHONPATH"] = os.pathsep.join([_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    else:
        del sys.path[0]
