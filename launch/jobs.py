"""Cells → jobs: what is left to do, which cells share a compiled program, and roughly how long each takes."""

import math
from collections.abc import Iterable

from scaling.cell import Cell, MLPSpec
from scaling.record import Store
from scaling.spec import canonical_json, fingerprint_text
from scaling.study import Study

# Seconds on one CPU core, measured on the demo study. They decide the order of cells and the first guess of the time
# left, which then follows what is seen; nothing else depends on them.
STEP_SECONDS = 1.5e-4
FLOPS_PER_SECOND = 5e10
CLASSICAL_SECONDS = {
    "logistic_regression": lambda m: 1e-4 * m,
    "linear_svm": lambda m: 2e-5 * m,
    "random_forest": lambda m: 1.5e-4 * m,
    "rbf_svm": lambda m: 1e-4 * m + 5e-7 * m * m,
}


def missing_cells(study: Study, store: Store) -> dict[str, Cell]:
    """Returns the study's cells without a record, by fingerprint; failed and interrupted ones count as missing."""
    return {name: cell for name, cell in study.cells.items() if not store.is_complete(name)}


def program_key(cell: Cell) -> str:
    """Returns a name that cells share if and only if one compilation serves them.

    Such cells may differ in seed, m, order, number of steps, peak learning rate and weight decay.
    """
    document = cell.model_dump(mode="json")
    values_aside = {"data": {"size", "order"}, "training": {"num_steps", "num_evaluations"}}
    kept = {
        part: {name: value for name, value in (document[part] or {}).items() if name not in values_aside.get(part, ())}
        for part in ("model", "data", "training")
    }
    if kept["training"]:
        kept["training"]["optimizer"] = {
            name: value
            for name, value in kept["training"]["optimizer"].items()
            if name not in ("peak_lr", "weight_decay")
        }
    return fingerprint_text(canonical_json(kept))


def estimate_seconds(cell: Cell) -> float:
    """Returns a rough time for a cell on one CPU core."""
    if cell.training is not None and isinstance(cell.model, MLPSpec):
        step_flops = 6.0 * cell.model.num_params * cell.training.batch_size
        return cell.training.num_steps * (STEP_SECONDS + step_flops / FLOPS_PER_SECOND)
    return CLASSICAL_SECONDS[cell.model.kind](cell.data.size)


class Queue:
    """Cells waiting for workers: longest first, and a worker keeps to the program that it has compiled."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._programs: dict[str, list[Cell]] = {}
        for cell in sorted(cells, key=estimate_seconds):
            self._programs.setdefault(program_key(cell), []).append(cell)
        self._users: dict[str, int] = dict.fromkeys(self._programs, 0)

    def take(self, program: str | None) -> tuple[str, Cell] | None:
        """Returns the next (program, cell) for a worker that last ran `program`; None when nothing is left.

        A worker that has run out of its own program's cells takes the program with the most work left per worker.
        """
        if program is None or not self._programs.get(program):
            waiting = [key for key, cells in self._programs.items() if cells]
            if not waiting:
                return None
            program = max(waiting, key=self._work_per_user)
            self._users[program] += 1
        return program, self._programs[program].pop()

    def _work_per_user(self, program: str) -> float:
        return math.fsum(estimate_seconds(cell) for cell in self._programs[program]) / (1 + self._users[program])
