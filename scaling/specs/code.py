"""What users bring, by name: code of a study's file, of a module beside it, of an installed package, or of a library.

A specification names code as `"name:attribute"` and never holds it: reading one imports nothing, and its fingerprint
does not follow the code's. The name is that of a file which this process was given (a study, or a module beside it), of
an entry point of the group `scaling`, or a module of optax or scikit-learn.
"""

import hashlib
import importlib
import importlib.abc
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, BaseModel, Field

from scaling.specs.base import InputError, Spec, suggest

# The group of entry points by which an installed package offers a module: `[project.entry-points.scaling]`.
GROUP = "scaling"
# Libraries whose own modules may be named: what they hold is as trusted as this package, which depends on them.
LIBRARIES = ("optax", "sklearn")
# Before the name of a file's module where that name is another module's already.
PREFIX = "study_"
# Fields whose texts are references where they have a colon.
REFERRING = ("code", "metrics")

CodeReference = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="name:attribute")]
Scalar = bool | int | float | str | None


class FrozenSettings(dict[str, Scalar]):
    """Settings that are a value: hashable, and not to be changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __setitem__(self, key: str, value: Scalar) -> NoReturn:
        raise TypeError("settings are frozen; make a new specification with others")

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)


Settings = Annotated[dict[str, Scalar], AfterValidator(FrozenSettings)]


class UnknownCodeError(InputError):
    """What a reference names is not known in this process."""


_files: dict[str, Path] = {}  # of what this process was given, by the name of the module
_loaded: dict[Path, tuple[str, ModuleType]] = {}  # with the hash of what was executed
_roots: set[Path] = set()  # folders that were put on `sys.path`


# --- from names to code ---------------------------------------------------------------------------------------------


def resolve(reference: str) -> Any:
    """Returns what a reference names, after importing the module that has it.

    Raises:
      InputError: nobody has given a file of that name, no package offers it, or there is no such attribute.

    >>> resolve("optax:lion").__name__
    'lion'
    """
    name, _, attribute = reference.partition(":")
    module = _module(name, reference)
    if not hasattr(module, attribute):
        names = [known for known in vars(module) if not known.startswith("_")]
        raise InputError(f"{reference!r}: {name} has no {attribute!r}; {suggest(attribute, names)}")
    return getattr(module, attribute)


def resolve_function(reference: str) -> Any:
    """Returns what a reference names, if it can be called.

    Raises:
      InputError: as `resolve`, or it is no function and no class.
    """
    found = resolve(reference)
    if not callable(found):
        raise InputError(f"{reference!r} is {type(found).__name__}; name a function or a class")
    return found


def _module(name: str, reference: str) -> ModuleType:
    if name in _files:
        return load_file(_files[name], name)
    if name.partition(".")[0] in LIBRARIES:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise InputError(f"{reference!r}: {error}; name a module that is installed") from None
    offered = installed()
    if name in offered:
        return offered[name].load()
    raise UnknownCodeError(
        f"{reference!r} is code that this process was not given; name the study's file with --study FILE, or install "
        f"a package that offers {name!r} as an entry point of the group {GROUP!r}"
    )


def installed() -> dict[str, Any]:
    """Returns the entry points of installed packages that offer a module, by name."""
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


# --- files ----------------------------------------------------------------------------------------------------------


def load_file(path: Path, name: str | None = None) -> ModuleType:
    """Returns the module of a Python file, which is executed unless it was already, and may import what is beside it.

    What is installed goes before what is beside it: a file called `random.py` or `scaling.py` hides nothing.

    Args:
      path: the path of the file.
      name: its name among the files of its folder, dots for packages; None for a file outside of any package.
    """
    path = path.resolve()
    name = name or path.stem
    _files[name] = path
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    if path in _loaded and _loaded[path][0] == content:
        return _loaded[path][1]
    _look_beside(root_of(name, path))
    if path not in _loaded and (found := _find_imported(name, path)) is not None:
        module = found
    else:
        module = _execute(name, path)
    _loaded[path] = content, module
    return module


def root_of(name: str, path: Path) -> Path:
    """Returns the folder that names of modules beside a file are found in."""
    above = name.count(".") + (path.name == "__init__.py")
    return path.parents[above]


def _find_imported(name: str, path: Path) -> ModuleType | None:
    """Returns the module that has this file, if this process has imported it by itself."""
    for known in (name, PREFIX + name, "__main__"):
        module = sys.modules.get(known)
        if module is not None and file_of(module) == path:
            return module
    return None


def _execute(name: str, path: Path) -> ModuleType:
    holder = sys.modules.get(name)
    if holder is None and "." in name:
        return importlib.import_module(name)  # a part of a package, which is imported first
    is_free = (holder is None and importlib.util.find_spec(name) is None) or _is_own(name, path)
    spec = importlib.util.spec_from_file_location(name if is_free else PREFIX + name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported; give a Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[spec.name]
        else:
            sys.modules[spec.name] = before
        raise
    return module


def _is_own(name: str, path: Path) -> bool:
    """Returns whether a name, as it is imported, is that of this file."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None and Path(found.origin).resolve() == path


def _look_beside(root: Path) -> None:
    """Lets imports find what is in a folder, after all else, and nothing any more that is beside another study."""
    if str(root) in sys.path:
        return
    for name, module in list(sys.modules.items()):
        path = file_of(module)
        if path is not None and any(path in candidates(other, name) for other in _roots):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if Path(entry) not in _roots]
    _roots.clear()
    _roots.add(root)
    sys.path.append(str(root))


def candidates(root: Path, name: str) -> tuple[Path, Path]:
    """Returns the files that a module of this name may have below a folder."""
    below = root.joinpath(*name.split("."))
    return below.with_name(below.name + ".py"), below / "__init__.py"


def file_of(module: ModuleType) -> Path | None:
    """Returns the Python file of a module; None where it has none."""
    path = getattr(module, "__file__", None)
    return Path(path).resolve() if isinstance(path, str) and path.endswith(".py") else None


def given_files() -> Mapping[str, Path]:
    """Returns the files that this process was given, by name."""
    return dict(_files)


def brought_modules() -> Iterator[ModuleType]:
    """Yields the modules of files that this process was given and has run, then those that installed packages offer."""
    yield from (module for _, module in _loaded.values())
    yield from (point.load() for point in installed().values())


class _ShippedFinder(importlib.abc.MetaPathFinder):
    """Finds modules of shipped files, before anything else that has their names."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Returns the spec of a shipped module; None for others."""
        file = self._files.get(fullname)
        inside = [str(file.parent)] if file is not None and file.name == "__init__.py" else None
        if file is None:
            return None
        return importlib.util.spec_from_file_location(fullname, file, submodule_search_locations=inside)


def give_files(files: Mapping[str, Path]) -> None:
    """Lets references name files, and imports of their names find these and no others of their names.

    Nothing is executed before a reference is resolved.

    Args:
      files: by name of the module.
    """
    resolved = {name: path.resolve() for name, path in files.items()}
    _files.update(resolved)
    sys.meta_path.insert(0, _ShippedFinder(resolved))


# --- from code to names ---------------------------------------------------------------------------------------------


def name_code(thing: Any) -> str:
    """Returns the reference of a function or class of a file, an installed package or a library.

    Raises:
      InputError: another process could not find it: it is local to a function, or was typed into a notebook.
    """
    qualified, owner = getattr(thing, "__qualname__", None), sys.modules.get(getattr(thing, "__module__", ""))
    if (
        not isinstance(qualified, str)
        or "." in qualified
        or owner is None
        or getattr(owner, qualified, None) is not thing
    ):
        raise InputError(f"{thing!r} has no name at the top of a module; define it there, where workers can find it")
    return f"{_name_module(owner)}:{qualified}"


def _name_module(module: ModuleType) -> str:
    name = module.__name__
    for point in installed().values():
        if point.value == name:
            return str(point.name)
    if name.partition(".")[0] in LIBRARIES:
        return name
    path = file_of(module)
    if path is None:
        raise InputError(
            f"{name} has no file, so that workers cannot be given it; write it to one (in a notebook with "
            "`%%writefile mine.py`) and import it from there"
        )
    known = next((each for each, given in _files.items() if given == path), None)
    if known is None:
        known = path.stem if name == "__main__" else name
        _files[known] = path
    return known


def references_in(spec: Spec) -> Iterator[str]:
    """Yields the references that a specification and its parts hold, in order."""
    text = spec.canonical_json()  # a study has many parts, of which few refer to code
    if any(f'"{field}":' in text for field in REFERRING):
        yield from _references("", spec)


def _references(field: str, value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(name, getattr(value, name))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _references(field, each)
    elif isinstance(value, str) and field in REFERRING and ":" in value:
        yield value


def describe_signature(function: Any) -> tuple[str, ...]:
    """Returns the names of a function's parameters; none where it does not tell."""
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()
