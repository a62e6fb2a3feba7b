"""What workers wrote while they were at a cell: the parts of the store's logs that belong to it."""

from collections.abc import Iterator

from etils import epath

from scaling.specs.base import InputError
from scaling.store.store import Store

# How lines of a log begin that say which cells the following ones are of.
JOB_MARK = "=== scaling job"


def find_cell(store: Store, name: str, known: list[str]) -> str:
    """Returns the fingerprint that begins with `name`.

    Raises:
      InputError: none does, or several do.
    """
    found = [cell for cell in known if cell.startswith(name)]
    if len(found) != 1:
        how = "no cell" if not found else f"{len(found)} cells"
        raise InputError(
            f"cell {name!r}: {how} of {str(store.path)!r} begin so; `scaling table {store.path}` has their names"
        )
    return found[0]


def log_files(store: Store) -> list[epath.Path]:
    """Returns a store's logs, oldest launch first."""
    folder = store.path / "logs"
    return sorted(folder.glob("*.log")) if folder.exists() else []


def cell_lines(store: Store, cell: str) -> Iterator[tuple[str, list[str]]]:
    """Yields the name of a log and its lines about a cell, for each time that a worker was at it."""
    for path in log_files(store):
        part: list[str] = []
        for line in path.read_bytes().decode(errors="replace").splitlines():
            if line.startswith(f"{JOB_MARK} begins"):
                if part:
                    yield path.name, part
                part = [line] if cell in line.split() else []
            elif part:
                part.append(line)
        if part:
            yield path.name, part
