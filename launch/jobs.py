"""Cells → jobs: what is left to do, which cells share a compiled program, and roughly how long each takes."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from scaling.cell import Cell
from scaling.models.specs import NetworkSpec
from scaling.record import Store
from scaling.spec import canonical_json, fingerprint_text
from scaling.study import Study

# Seconds on one CPU core, measured on the demo study. They decide the order of cells and the first guess of the time
# left, which then follows what is seen; nothing else depends on them.
STEP_SECONDS = 1.5e-4
FLOPS_PER_SECOND = 5e10
CLASSICAL_SECONDS: dict[str, Callable[[Any, int], float]] = {  # by model and m
    "logistic_regression": lambda _, m: 1e-4 * m,
    "linear_svm": lambda _, m: 2e-5 * m,
    "random_forest": lambda model, m: 3e-6 * model.num_trees * m,
    "rbf_svm": lambda _, m: 1e-4 * m + 5e-7 * m * m,
    "gradient_boosting": lambda model, m: model.num_iterations * (3e-3 + 1e-6 * m),
    "naive_bayes": lambda _, m: 1e-3 + 1.5e-6 * m,
    "ridge": lambda _, m: 1e-2 + 2e-4 * m,
}


class Scale(NamedTuple):
    """What a network's size and cost follow from, within an order of magnitude, where its data has not been read.

    Attributes:
      params: N over depth · width².
      uses: how often an example uses each parameter: in every place of an image, for every token, or once.
    """

    params: float
    uses: float


# From published networks at 224 × 224 (He et al. 2015; Simonyan & Zisserman 2014; Szegedy et al. 2014; Chollet 2016),
# and 64 tokens.
SCALES = {
    "mlp": Scale(1, 1),
    "convnet": Scale(50, 30),
    "resnet": Scale(22, 150),
    "inception": Scale(6.5, 220),
    "xception": Scale(0.7, 370),
    "lstm": Scale(8, 64),
    "transformer": Scale(12, 64),
    "vit": Scale(12, 64),
}


def missing_cells(study: Study, store: Store) -> dict[str, Cell]:
    """Returns the study's cells without a record, by fingerprint; failed and interrupted ones count as missing."""
    return {name: cell for name, cell in study.cells.items() if not store.is_complete(name)}


def program_key(cell: Cell) -> str:
    """Returns a name that cells share if and only if one compilation serves them.

    Such cells may differ in seed, m, order, noise, duplicates, number of steps, peak learning rate and weight decay.
    """
    document = cell.model_dump(mode="json")
    values_aside = {
        "data": {"size", "order", "label_noise", "duplication", "normalize"},
        "training": {"num_steps", "num_evaluations"},
    }
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


def estimate_seconds(cell: Cell, train_flops: float | None = None) -> float:
    """Returns a rough time for a cell on one CPU core.

    Args:
      cell: what would be trained.
      train_flops: of a whole run of a network, where they are known (`describe_cell` counts them, but reads the data);
        None guesses them from the specification alone.
    """
    if not isinstance(cell.model, NetworkSpec):
        return CLASSICAL_SECONDS[cell.model.kind](cell.model, cell.data.size)
    assert cell.training is not None  # noqa: S101  (Cell requires it of networks)
    if train_flops is None:
        train_flops = _guess_example_flops(cell.model) * cell.training.num_steps * cell.training.batch_size
    return cell.training.num_steps * STEP_SECONDS + train_flops / FLOPS_PER_SECOND


def _guess_example_flops(model: Any) -> float:
    """Returns about 6 FLOPs for each use of a parameter: 2 forward and 4 backward."""
    scale = SCALES[model.kind]
    num_params = model.num_params or scale.params * max(model.depth or 1, 1) * model.width**2
    return 6.0 * num_params * scale.uses


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
