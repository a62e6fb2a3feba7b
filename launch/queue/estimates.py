"""How long a cell takes, roughly, from its specification alone."""

import math
from collections.abc import Iterable
from typing import NamedTuple, assert_never

from scaling.specs.cell import Cell, is_network, narrow
from scaling.specs.models import (
    AnyEstimatorSpec,
    AnyNetworkSpec,
    ConvNetSpec,
    EstimatorSpec,
    GradientBoostingSpec,
    InceptionSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    LSTMSpec,
    MLPSpec,
    ModuleSpec,
    NaiveBayesSpec,
    RandomForestSpec,
    RBFSVMSpec,
    ResNetSpec,
    RidgeSpec,
    TransformerSpec,
    ViTSpec,
    XceptionSpec,
)
from scaling.specs.schedules import WSDSchedule
from scaling.specs.sharing import gather_members

# Seconds on one CPU core, measured on the demo study. They decide the order of cells and the first guess of the time
# left, which then follows what is seen; nothing else depends on them.
STEP_SECONDS = 1.5e-4
FLOPS_PER_SECOND = 5e10


class Scale(NamedTuple):
    """What a network's size and cost follow from, within an order of magnitude, where its data has not been read.

    Attributes:
      params: N over depth · width².
      uses: how often an example uses each parameter: in every place of an image, for every token, or once.
    """

    params: float
    uses: float


def estimate_seconds(cell: Cell, train_flops: float | None = None) -> float:
    """Returns a rough time for a cell on one CPU core.

    Args:
      cell: what would be trained.
      train_flops: of a whole run of a network, where they are known (`describe_cell` counts them, but reads the data);
        None guesses them from the specification alone.
    """
    narrowed = narrow(cell)
    if not is_network(narrowed):
        return _estimator_seconds(narrowed.model, cell.data.size)
    training = narrowed.training
    if train_flops is None:
        train_flops = _guess_example_flops(narrowed.model) * training.num_steps * training.batch_size
    return training.num_steps * STEP_SECONDS + train_flops / FLOPS_PER_SECOND


def _estimator_seconds(model: AnyEstimatorSpec, m: int) -> float:
    """Returns a rough time for fitting an estimator to m examples on one CPU core, measured on the demo study."""
    match model:
        case LogisticRegressionSpec():
            return 1e-4 * m
        case LinearSVMSpec():
            return 2e-5 * m
        case RandomForestSpec():
            return 3e-6 * model.num_trees * m
        case RBFSVMSpec():
            return 1e-4 * m + 5e-7 * m * m
        case GradientBoostingSpec():
            return model.num_iterations * (3e-3 + 1e-6 * m)
        case NaiveBayesSpec():
            return 1e-3 + 1.5e-6 * m
        case RidgeSpec():
            return 1e-2 + 2e-4 * m
        case EstimatorSpec():  # of which nothing is known
            return 1e-4 * m
        case _:
            assert_never(model)


def _guess_example_flops(model: AnyNetworkSpec) -> float:
    """Returns about 6 FLOPs for each use of a parameter: 2 forward and 4 backward."""
    scale = _scale_of(model)
    num_params = model.num_params or scale.params * max(getattr(model, "depth", None) or 1, 1) * (model.width or 1) ** 2
    return 6.0 * num_params * scale.uses


def _scale_of(model: AnyNetworkSpec) -> Scale:
    """Returns the scale of a family.

    From published networks at 224 × 224 (He et al. 2015; Simonyan & Zisserman 2014; Szegedy et al. 2014; Chollet 2016),
    and 64 tokens.
    """
    match model:
        case MLPSpec():
            return Scale(1, 1)
        case ConvNetSpec():
            return Scale(50, 30)
        case ResNetSpec():
            return Scale(22, 150)
        case InceptionSpec():
            return Scale(6.5, 220)
        case XceptionSpec():
            return Scale(0.7, 370)
        case LSTMSpec():
            return Scale(8, 64)
        case TransformerSpec() | ViTSpec():
            return Scale(12, 64)
        case ModuleSpec():  # of which nothing is known
            return Scale(4, 1)
        case _:
            assert_never(model)


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
