"""How long a cell takes, roughly, from its specification alone."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from scaling.specs.cell import Cell, is_network
from scaling.specs.schedules import WSDSchedule
from scaling.specs.sharing import gather_members

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


def estimate_seconds(cell: Cell, train_flops: float | None = None) -> float:
    """Returns a rough time for a cell on one CPU core.

    Args:
      cell: what would be trained.
      train_flops: of a whole run of a network, where they are known (`describe_cell` counts them, but reads the data);
        None guesses them from the specification alone.
    """
    if not is_network(cell):
        return CLASSICAL_SECONDS[cell.model.kind](cell.model, cell.data.size)
    if train_flops is None:
        train_flops = _guess_example_flops(cell.model) * cell.training.num_steps * cell.training.batch_size
    return cell.training.num_steps * STEP_SECONDS + train_flops / FLOPS_PER_SECOND


def _guess_example_flops(model: Any) -> float:
    """Returns about 6 FLOPs for each use of a parameter: 2 forward and 4 backward."""
    scale = SCALES[model.kind]
    num_params = model.num_params or scale.params * max(model.depth or 1, 1) * model.width**2
    return 6.0 * num_params * scale.uses


def paid_shares(cells: Iterable[Cell]) -> dict[str, float]:
    """Returns which share of its own run each cell adds to what is trained, by fingerprint.

    That is 1, but for a leaf of a branch tree: the trunk up to the fork before is paid by the shorter ones.
    """
    found = {}
    for member in gather_members(cells):
        trunk_steps = 0
        for cell in member:
            found[cell.fingerprint()] = 1.0
            if (training := cell.training) is not None and isinstance(training.schedule, WSDSchedule):
                found[cell.fingerprint()] = 1.0 - trunk_steps / training.num_steps
                trunk_steps = training.schedule.decay_start(training.num_steps)
    return found


def divide_seconds(cells: Iterable[Cell]) -> dict[str, float]:
    """Returns a rough time on one CPU core for each cell of a job, by fingerprint."""
    cells = list(cells)
    shares = paid_shares(cells)
    return {cell.fingerprint(): shares[cell.fingerprint()] * estimate_seconds(cell) for cell in cells}


def estimate_job(cells: Iterable[Cell]) -> float:
    """Returns a rough time for the cells of a job, one after another on one CPU core."""
    return math.fsum(divide_seconds(cells).values())
