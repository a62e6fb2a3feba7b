"""Finds the Pythons of this machine that the project supports, also those that a version manager keeps.

    python3 tests/pythons.py             each release once, newest first
    python3 tests/pythons.py --newest    the newest that is no release of the Python that runs this; nothing without one
    python3 tests/pythons.py 3.13        the path of the newest 3.13

Standard error says of a Python that is there and cannot be used why that is.
"""

import json
import os
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path

MINORS = range(11, 15)  # of Python 3: from 3.15 on, packages that are needed cannot be installed yet

# Where version managers keep theirs, below the home folder; a variable of theirs may name another place.
KEPT = [
    ("PYENV_ROOT", ".pyenv", "versions/*/bin"),
    ("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python", "*/bin"),
    ("ASDF_DATA_DIR", ".asdf", "installs/python/*/bin"),
    ("MISE_DATA_DIR", ".local/share/mise", "installs/python/*/bin"),
    ("RUNNER_TOOL_CACHE", "hostedtoolcache", "Python/*/*/bin"),
]

ASK = """
import importlib.util, json, sys, sysconfig
lacks = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
if sys.version_info.releaselevel != "final":
    lacks.append("a final release")
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    lacks.append("the global interpreter lock, which packages need")
version, is_own = sys.version_info[:3], sys.prefix == sys.base_prefix
print(json.dumps({"version": version, "is_own": is_own, "path": sys.executable, "lacks": lacks}))
"""


def parts(version: str) -> tuple[int, ...]:
    """Returns the numbers of a version: (3, 13, 0) of 3.13.0."""
    return tuple(map(int, version.split(".")))


def candidates() -> list[Path]:
    """Returns the files that may be a Python of a supported version, each once, in the order of the path."""
    folders = os.get_exec_path()
    for variable, usual, below in KEPT:
        kept = os.environ.get(variable) or Path.home() / usual
        names = glob(below, root_dir=kept)  # noqa: PTH207  (that of Path raises where it may not read)
        folders += [f"{kept}/{name}" for name in sorted(names)]
    programs = ["python3", *(f"python3.{minor}" for minor in MINORS)]
    found = (shutil.which(program, path=folder) for folder in folders for program in programs)
    return list(dict.fromkeys(Path(path).resolve() for path in found if path))


def find() -> dict[str, str]:
    """Returns the path of each release by its version, newest first."""
    usable: dict[str, str] = {}
    for path in candidates():
        try:
            done = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, check=False, timeout=60)
            said = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired):  # a version manager's stand-in for what is not chosen
            continue
        version = ".".join(map(str, said["version"]))
        if said["version"][1] not in MINORS or not said["is_own"]:
            continue
        if said["lacks"]:
            print(f"{said['path']} is Python {version} without {' and '.join(said['lacks'])}", file=sys.stderr)
        else:
            usable.setdefault(version, said["path"])
    return dict(sorted(usable.items(), key=lambda pair: parts(pair[0]), reverse=True))


def main(words: list[str], own: tuple[int, ...] = sys.version_info[:2]) -> None:
    """Prints what the words ask for, a line each; `own` is the Python that runs this."""
    if len(words) > 1:
        sys.exit(__doc__)
    found = find()
    if not words:
        print(*found, sep="\n")
    elif words == ["newest"]:
        print(*[path for version, path in found.items() if parts(version)[:2] != own][:1])
    else:
        matching = [path for version, path in found.items() if f"{version}.".startswith(f"{words[0]}.")]
        if not matching:
            sys.exit(f"Python {words[0]} is not among those that were found here: {', '.join(found) or 'none'}")
        print(matching[0])


if __name__ == "__main__":
    main(sys.argv[1:])
