"""Users' code in a store: the files that cells name and what these import beside them, under the hash of them all."""

import ast
import atexit
import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

from etils import epath

from scaling.specs.base import InputError, canonical_json
from scaling.specs.code import LIBRARIES, UnknownCodeError, candidates, give_files, given_files, installed, root_of
from scaling.store.files import write_atomically

# Of this project; every machine has them.
OURS = ("analysis", "configs", "launch", "scaling")

FOLDER, MANIFEST = "code", "code.json"


class Bundle(NamedTuple):
    """Files of users' code.

    Attributes:
      files: text by name of the module; dots for packages, and `pkg.__init__` for what a package is itself.
    """

    files: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each file, by its path below the folder of the study."""
        return {path_of(name): hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(self.files.items())}

    @property
    def sha256(self) -> str:
        """The hash of all, which is the bundle's name."""
        return hashlib.sha256(canonical_json(self.hashes).encode()).hexdigest()


def path_of(name: str) -> str:
    """Returns where a module's file is, below the folder that names are found in.

    >>> path_of("mine"), path_of("lab.nets")
    ('mine.py', 'lab/nets.py')
    """
    return name.replace(".", "/") + ".py"


def pack(references: Iterable[str]) -> Bundle:
    """Returns the files that references name, and those beside them that these import, wherever in their text.

    What packages and libraries have is not packed: every machine must have them installed.

    Raises:
      InputError: a file is not known here, or cannot be shipped: it imports what is neither beside it nor installed.
    """
    found: dict[str, str] = {}
    waiting = [(name, path) for name, path in _files_named(references)]
    while waiting:
        name, path = waiting.pop()
        key = f"{name}.__init__" if path.name == "__init__.py" else name
        if key in found:
            continue
        found[key] = _read(path)
        waiting.extend(_imported(name, path, found[key]))
    return Bundle(found)


def code_versions(references: Iterable[str]) -> dict[str, str]:
    """Returns what a record says of the code that its cell names: hashes of files, and versions of packages."""
    references = list(references)
    offered = installed()
    packages = {}
    for name in {reference.partition(":")[0] for reference in references} - given_files().keys():
        if name in offered and offered[name].dist is not None:
            packages[name] = f"{offered[name].dist.name} {offered[name].dist.version}"
    return pack(references).hashes | packages


def _files_named(references: Iterable[str]) -> Iterator[tuple[str, Path]]:
    offered = None
    for name in dict.fromkeys(reference.partition(":")[0] for reference in references):
        if name in given_files():
            yield name, given_files()[name]
        elif name.partition(".")[0] not in LIBRARIES:
            offered = installed() if offered is None else offered
            if name not in offered:
                raise UnknownCodeError(
                    f"code {name!r}: this process was not given its file; name it with --study FILE, or install a "
                    "package that offers it"
                )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"code {str(path)!r} cannot be read ({error}); give a Python file of UTF-8") from None


def _imported(name: str, path: Path, text: str) -> Iterator[tuple[str, Path]]:
    """Yields the modules beside a file that it imports."""
    root = root_of(name, path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for wanted, line in _names(ast.parse(text, str(path)), package):
        top = wanted.partition(".")[0]
        if top in OURS:
            continue
        beside = _find_beside(root, wanted)
        if beside is None:
            _check_installed(top, root, path, line)
        else:
            yield from beside


def _names(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """Yields the names that a file imports, those that may be modules of a package included, and their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base, node.lineno
            yield from ((f"{base}.{alias.name}" if base else alias.name, node.lineno) for alias in node.names)


def _find_beside(root: Path, name: str) -> list[tuple[str, Path]] | None:
    """Returns a module's file and those of the packages that it is in; None where it is not beside the study."""
    parts = name.split(".")
    if _is_shadowed(root, parts[0]):
        return None
    found = []
    for count in range(1, len(parts) + 1):
        inside = ".".join(parts[:count])
        file = next((path for path in candidates(root, inside) if path.is_file()), None)
        if file is None:  # a name in a module, or a folder without __init__.py
            if count == 1 and not (root / parts[0]).is_dir():
                return None
            continue
        found.append((inside, file))
    return found


def _is_shadowed(root: Path, top: str) -> bool:
    """Returns whether an import takes what is installed and not what is beside the study."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    return not any(
        Path(place).resolve().is_relative_to(root) for place in places if place not in ("built-in", "frozen")
    )


def _check_installed(top: str, root: Path, path: Path, line: int) -> None:
    """Checks that other machines can be expected to have a module.

    Raises:
      InputError: it is compiled and beside the study, or lies somewhere that is neither beside it nor installed.
    """
    for suffix in EXTENSION_SUFFIXES:
        if (root / f"{top}{suffix}").exists():
            raise InputError(
                f"{path}, line {line}: imports {top!r}, a compiled module beside it, which cannot be shipped; install "
                "it as a package on every machine"
            )
    if top in sys.stdlib_module_names:
        return
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None or spec.origin is None:
        return  # where it is needed, its import will say so
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    origin = Path(spec.origin).resolve()
    if any(origin.is_relative_to(place) for place in places):
        return
    if top not in importlib.metadata.packages_distributions():
        raise InputError(
            f"{path}, line {line}: imports {top!r} from {origin.parent}, which is neither beside the study nor "
            "installed, so that workers elsewhere would lack it; put it beside the study, or install it as a package"
        )


# --- in a store -----------------------------------------------------------------------------------------------------


def keep_code(store: epath.Path, bundle: Bundle) -> str:
    """Writes a bundle into a store, unless it is there, and returns its hash."""
    folder = store / FOLDER / bundle.sha256
    if not (folder / MANIFEST).exists():
        for name, text in bundle.files.items():
            write_atomically(folder / path_of(name), text)
        write_atomically(folder / MANIFEST, json.dumps(bundle.hashes, indent=1) + "\n")  # last: all are there
    return bundle.sha256


def take_code(store: epath.Path, sha256: str) -> None:
    """Lets references of this process name a bundle's files, copied to a folder that goes with the process.

    Raises:
      InputError: as `use_code`.
    """
    folder = tempfile.mkdtemp(prefix="scaling-code-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    use_code(store, sha256, Path(folder))


def use_code(store: epath.Path, sha256: str, folder: Path) -> None:
    """Lets references of this process name the files of a bundle, after copying them to a folder of its own.

    Nothing is executed before a reference is resolved, and nothing at all whose content has another hash.

    Raises:
      InputError: the store lacks the bundle, or holds other content under its name.
    """
    kept = store / FOLDER / sha256
    try:
        hashes = json.loads((kept / MANIFEST).read_text())
        texts = {path: (kept / path).read_text() for path in hashes if _is_inside(path)}
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"code {sha256[:12]} of {store} cannot be read ({error}); start the launch again") from None
    bundle = Bundle({path.removesuffix(".py").replace("/", "."): text for path, text in texts.items()})
    if bundle.sha256 != sha256:
        raise InputError(f"{kept} holds other code than its name says; remove that folder, and start the launch again")
    for name, text in bundle.files.items():
        path = folder / path_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    give_files({name.removesuffix(".__init__"): folder / path_of(name) for name in bundle.files})


def _is_inside(path: object) -> bool:
    """Returns whether a path of a manifest is one that `path_of` could give."""
    return isinstance(path, str) and path.endswith(".py") and all(part.isidentifier() for part in path[:-3].split("/"))
