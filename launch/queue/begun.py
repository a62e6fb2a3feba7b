"""Jobs that were begun and left: what is needed to form the same ones again."""

from collections.abc import Mapping, Sequence

from etils import epath

from launch.queue.cells import cell_file, read_cell
from scaling.specs.base import InputError, Spec, parse
from scaling.specs.cell import Cell, is_network
from scaling.specs.execution import Execution
from scaling.specs.sharing import trunk_of
from scaling.store.files import write_atomically
from scaling.store.store import Store

# In the folder of a job's checkpoints: which cells it has.
BEGUN = "job.json"


class Begun(Spec):
    """What `checkpoints/job.json` of a job's leader holds: enough to form the same job again, and so go on with it.

    Attributes:
      cells: fingerprints of all its cells.
      execution: how it was run.
    """

    cells: tuple[str, ...]
    execution: Execution


def note_begun(folder: epath.Path, cells: Sequence[Cell], execution: Execution) -> None:
    """Writes which job keeps its checkpoints in a folder."""
    begun = Begun(cells=tuple(cell.fingerprint() for cell in cells), execution=execution)
    write_atomically(folder / BEGUN, begun.canonical_json())


def begun_jobs(cells: Mapping[str, Cell], store: Store) -> list[tuple[tuple[Cell, ...], Execution]]:
    """Returns the jobs that have checkpoints, with the cells that they still miss and how they were run.

    A job of which some member is complete is left out: what is kept holds all of them. Leaves may be complete.

    Args:
      cells: without records, by fingerprint.
      store: where they will go.
    """
    begun_before: list[tuple[tuple[Cell, ...], Execution]] = []
    taken = set[Cell]()
    leaders = store.find_cells(f"checkpoints/{BEGUN}", [name for name, cell in cells.items() if is_network(cell)])
    for name in cells:
        if name not in leaders:
            continue
        path = store.cell_path(name) / "checkpoints" / BEGUN
        try:
            begun = parse(Begun, path.read_text(), str(path))
        except InputError:  # torn, or of another version: the cells are trained anew, as they were found
            continue
        job = tuple(cell for name in begun.cells if name in cells and is_network(cell := cells[name]))
        trunks = set(map(trunk_of, job))
        others = [name for name in begun.cells if name not in cells]
        is_whole = all(
            cell_file(store, name).exists() and is_network(cell := read_cell(store, name)) and trunk_of(cell) in trunks
            for name in others
        )
        if is_whole and not taken.intersection(job):
            begun_before.append((job, begun.execution))
            taken.update(job)
    return begun_before
