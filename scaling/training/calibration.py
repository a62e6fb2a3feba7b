"""Which execution is fastest here: a rule for short work, a measurement for long, kept for the next time."""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.data.feeding.placement import DeviceData, Standard
from scaling.data.loading import load_source
from scaling.data.source import task_shape
from scaling.devices.processes import visible_cores
from scaling.learning.step import Hyper, make_hyper
from scaling.models.counting.params import count_params
from scaling.models.registry import make_shape
from scaling.models.shape import Shape
from scaling.specs.base import InputError, canonical_json, fingerprint_text, parse
from scaling.specs.cell import Cell, NetworkCell, is_network
from scaling.specs.execution import Execution
from scaling.specs.sharing import program_key
from scaling.specs.task import TaskShape
from scaling.store.cache import cache_folder
from scaling.store.files import publish_text
from scaling.training.program import Stacked, get_program

# Raise when what is compared changes meaning; choices of other versions are measured anew.
CALIBRATION_VERSION = 1

# A measurement may take this share of the work that it is for, and is not begun for work below so many seconds.
SHARE_OF_WORK, WORTH_SECONDS = 0.1, 30.0

# How long the steps of one candidate are timed, after its compilation.
TIMED_SECONDS = 0.3

# Populations that are tried, and the widest network of which several run faster side by side on a CPU core: eight of
# width 32 do 1.5 times the steps of one at a time, of width 128 and more no more than one.
WIDTHS, CPU_WIDTH, ACCELERATOR_WIDTHS = (8, 16), 64, (8, 32, 128)
MEMBER_BYTES_SHARE = 0.1  # of the device's memory, for the states of a population

POOL = 512  # examples that steps are timed on

# On CPUs, a process that has computed for less than this share of the time had to share its cores. So had one, on any
# device, whose two timings of the same steps differ by more than this factor.
OWN_SHARE, STEADY = 0.9, 1.5

# For how long a measurement is believed: machines, drivers and their other users change.
MAX_AGE_DAYS = 30


class Choice(NamedTuple):
    """An execution, and in one line how it was chosen."""

    execution: Execution
    how: str


class Rate(NamedTuple):
    """What an execution reaches.

    Attributes:
      steps: of one member a second, all members together, without compilation.
      is_steady: whether the machine was this process's own while it was measured, as far as that shows.
    """

    steps: float
    is_steady: bool


def choose_execution(cell: Cell, *, num_members: int, seconds: float) -> Choice:
    """Returns how to run the cells of a program.

    Args:
      cell: one of them.
      num_members: cells that could run side by side.
      seconds: the seconds of work that they are, roughly, on one core.
    """
    if not is_network(cell):
        return Choice(Execution(), "an estimator's own solver")
    source = load_source(cell.data)
    shape = make_shape(cell.model, task_shape(source))
    measured_before = _read(cell)
    if measured_before is not None:
        return _limited(measured_before, num_members, "measured before")
    if seconds < WORTH_SECONDS:
        return _limited(rule(shape), num_members, "by rule: too short to measure")
    began = time.monotonic()
    rates: dict[Execution, Rate] = {}
    for execution in candidates(shape, num_members):
        if rates and time.monotonic() - began > SHARE_OF_WORK * seconds:
            break
        rates[execution] = measure(cell, shape, execution)
    best = max(rates, key=lambda execution: rates[execution].steps)
    first = next(iter(rates.values()))
    took = time.monotonic() - began
    ratio = rates[best].steps / first.steps
    how = f"{rates[best].steps:,.0f} steps of a member a second, {ratio:.2f} times those of one by one"
    how += f"; {len(rates)} ways measured in {took:.0f} s"
    if all(rate.is_steady for rate in rates.values()):
        _write(cell, best, rates)
    else:
        how += ", on a busy machine: the next run measures again"
    return _limited(best, num_members, how)


def rule(shape: Shape) -> Execution:
    """Returns the execution for work that is too short to measure."""
    widths = _widths(shape)
    return Execution(population=widths[0] if widths else 1)


def candidates(shape: Shape, num_members: int) -> Iterator[Execution]:
    """Yields what is worth a measurement: first what would be done without one, then what departs from it."""
    yield Execution()
    kind, on_cpu = shape.spec.kind, jax.default_backend() == "cpu"
    if on_cpu and kind in ("convnet", "resnet", "inception", "xception"):
        yield Execution(loop="step", convolution="native")
    if kind in ("transformer", "vit"):
        yield Execution(attention="plain")
    if shape.task.predicts_tokens:
        yield Execution(cross_entropy="lean" if on_cpu else "plain")
    for width in _widths(shape):
        if width <= num_members:
            yield Execution(population=width)


def measure(cell: NetworkCell, shape: Shape, execution: Execution) -> Rate:
    """Returns the rate of optimiser steps.

    The examples are noise: a step takes as long on any.
    """
    stacked = Stacked(inputs=False, labels=False) if execution.population > 1 else None
    program = get_program(shape, cell.training, cell.data.augmentation, execution, stacked)
    data, hyper = _noise(shape.task, execution.population), _hyper(cell, execution.population)
    state = program.init(hyper.seed)

    def steps(count: int) -> float:
        nonlocal state
        began = time.monotonic()
        state, losses = program.run(state, hyper, data, np.int32(count))
        jax.block_until_ready((state, losses))
        return time.monotonic() - began

    steps(1)
    each = steps(2) / 2
    count = int(np.clip(TIMED_SECONDS / 2 / max(each, 1e-6), 1, 256))
    began, computed = time.monotonic(), time.process_time()
    timings = steps(count), steps(count)
    computed, took = time.process_time() - computed, time.monotonic() - began
    is_own = jax.default_backend() != "cpu" or computed >= OWN_SHARE * took
    is_steady = is_own and max(timings) <= STEADY * min(timings)
    return Rate(execution.population * count / min(timings), is_steady)


def _widths(shape: Shape) -> tuple[int, ...]:
    """Returns the sizes of populations that may pay for a shape."""
    params = sum(count_params(shape).values())
    if jax.default_backend() == "cpu":
        return WIDTHS if shape.spec.kind == "mlp" and shape.width <= CPU_WIDTH else ()
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 1 << 34) * MEMBER_BYTES_SHARE
    return tuple(width for width in ACCELERATOR_WIDTHS if 16 * params * width <= limit)


def _noise(task: TaskShape, population: int) -> DeviceData:
    """Returns examples of a task's shape."""
    generator = np.random.default_rng(0)
    own = () if population == 1 else (population,)
    if task.vocab_size is not None:
        length = task.num_features + (task.objective == "next_token")
        inputs: Any = generator.integers(0, task.vocab_size, (POOL, length)).astype(np.int32)
        numbers = 0
    else:
        inputs, numbers = generator.normal(size=(POOL, task.num_features)).astype(np.float32), task.num_features
    if task.objective == "regress":
        labels: Any = generator.normal(size=(POOL, *task.label_dims)).astype(np.float32)
    else:
        labels = generator.integers(0, task.num_classes, POOL).astype(np.int32)
    shift, scale = np.zeros((*own, numbers), np.float32), np.ones((*own, numbers), np.float32)
    of_labels = (*own, *task.label_dims)
    standard = Standard(shift, scale, np.zeros(of_labels, np.float32), np.ones(of_labels, np.float32))
    order: Any = np.broadcast_to(np.arange(POOL, dtype=np.int32), (*own, POOL))
    return jax.tree.map(jnp.asarray, DeviceData(inputs, labels, order, standard))


def _hyper(cell: NetworkCell, population: int) -> Hyper:
    # A learning rate of 0: a run that diverges would be another computation.
    hyper = make_hyper(cell.training, POOL, 0)._replace(peak_lr=np.float32(0.0), weight_decay=np.float32(0.0))
    return hyper if population == 1 else jax.tree.map(lambda x: np.stack([x] * population), hyper)


def _limited(execution: Execution, num_members: int, how: str) -> Choice:
    """Returns a choice with a population no larger than there are members."""
    width = max(1, min(execution.population, num_members))
    return Choice(execution.model_copy(update={"population": width}), how)


def _path(cell: Cell) -> Any:
    here = {
        "program": program_key(cell),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cores": visible_cores(),
        "jax": jax.__version__,
        "version": CALIBRATION_VERSION,
    }
    return cache_folder() / "calibration" / f"{fingerprint_text(canonical_json(here))}.json"


def _read(cell: Cell) -> Execution | None:
    """Returns what was measured before on a machine like this; None if that is long ago, or not what the file holds."""
    path = _path(cell)
    if not path.exists() or time.time() - path.stat().st_mtime > MAX_AGE_DAYS * 86_400:
        return None
    try:
        return parse(Execution, json.dumps(json.loads(path.read_text())["execution"]), str(path))
    except (ValueError, KeyError, TypeError, InputError):
        return None


def _write(cell: Cell, best: Execution, rates: dict[Execution, Rate]) -> None:
    path = _path(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "execution": best.model_dump(mode="json"),
        "steps_per_second": [
            {"execution": execution.model_dump(mode="json", exclude_defaults=True), "rate": rate.steps}
            for execution, rate in rates.items()
        ],
    }
    publish_text(path, canonical_json(document) + "\n")
