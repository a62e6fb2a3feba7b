"""A small study whose runs are told and not trained: what a trainer would tell trackers, in no time.

As a program, it is a trainer that tells of one cell of a store, step by step, until it is done or killed:

    python tests/told_runs.py STORE CELL SECONDS

A step takes so many seconds. It prints the id of the process beside it, which mirrors the cell to W&B.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from etils import epath

from scaling.specs.base import parse
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import LogisticRegressionSpec, MLPSpec
from scaling.specs.study import Series, Study
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.outline import cell_labels
from scaling.store.record import Evaluation, Record, SubsetManifest
from scaling.store.store import Store
from scaling.tracking import CurveFile, Together, Tracker
from scaling.tracking.weights_and_biases import WeightsAndBiases

NUM_STEPS, BATCH_SIZE = 40, 32
EXAMPLE_FLOPS = 6000.0
# What is known of a network beforehand.
END = {
    "num_params": 3010,
    "data_seen": NUM_STEPS * BATCH_SIZE,
    "train_flops": NUM_STEPS * BATCH_SIZE * EXAMPLE_FLOPS,
}


def make_study(num_seeds: int = 2, sizes: tuple[int, ...] = (50, 100, 200)) -> Study:
    """Returns a study of two series, `mlp` and `linear`."""
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=BATCH_SIZE, num_steps=NUM_STEPS)
    mlp, linear = [], []
    for seed in range(num_seeds):
        for size in sizes:
            data = DataSpec(source=DigitsSource(), size=size, evaluation_size=400)
            mlp.append(Cell(model=MLPSpec(num_params=3000), data=data, training=training, seed=seed))
            linear.append(Cell(model=LogisticRegressionSpec(), data=data, seed=seed))
    series = (Series(label="mlp", cells=tuple(mlp)), Series(label="linear", cells=tuple(linear)))
    return Study(name="told", question="?", metric="loss", series=series)


def make_store(folder: Path, study: Study | None = None) -> Store:
    """Returns a store that holds a study and its cells, none of which was tried."""
    study, store = study or make_study(), Store(epath.Path(folder))
    store.create(study.canonical_json())
    for cell in study.cells.values():
        store.write_cell(cell.canonical_json())
    return store


def networks_of(store: Store) -> list[str]:
    """Returns the fingerprints of the cells that have steps."""
    return _names_of(store, "mlp")


def estimators_of(store: Store) -> list[str]:
    """Returns the fingerprints of the cells without steps."""
    return _names_of(store, "linear")


def _names_of(store: Store, label: str) -> list[str]:
    return [name for name, labels in cell_labels(store.study).items() if label in labels]


def make_points(cell: Cell, begin: int, end: int) -> list[dict]:
    """Returns what is told of the steps after one and up to another, in order: a training loss each, and evaluations.

    As in a trainer, the first steps have no speed.
    """
    if cell.training is None:
        return [make_evaluation(cell, None).model_dump(mode="json")]
    points: list[dict] = []
    for step in range(begin + 1, end + 1):
        speed = {} if step <= 4 else {"steps_per_second": 100.0}
        points.append({"step": step, "train_loss": make_loss(cell, step) + 0.01, **speed})
        if step in (5, 10, 20, NUM_STEPS):
            points.append(make_evaluation(cell, step).model_dump(mode="json"))
    return points


def make_loss(cell: Cell, step: int) -> float:
    """Returns the loss at a step: a power law of the subset's size, with a bit of noise from the seed."""
    return 0.1 + (cell.data.size + 7.0 * cell.seed) ** -0.5 + 1.0 / (1 + step)


def make_evaluation(cell: Cell, step: int | None) -> Evaluation:
    """Returns an evaluation; `step` is None for a model without steps."""
    seen, loss = cell.data.size if step is None else step * BATCH_SIZE, make_loss(cell, step or 100)
    flops = None if step is None else seen * EXAMPLE_FLOPS
    return Evaluation(step=step, data_seen=seen, train_flops=flops, loss=loss, metrics={"error": loss / 4})


def make_record(cell: Cell) -> Record:
    """Returns a cell's record."""
    points = [point for point in make_points(cell, 0, NUM_STEPS) if "data_seen" in point]
    evaluations = tuple(Evaluation(**point) for point in points)
    manifest = SubsetManifest(
        source="digits", source_sha256="0" * 64, order="permutation", seed=cell.seed, size=cell.data.size,
        digests={str(cell.data.size): f"{cell.seed}-{cell.data.size}"}, class_counts=(), evaluation_size=400,
        evaluation_sha256="1" * 64,
    )  # fmt: skip
    return Record(
        cell=cell.fingerprint(), family=cell.model.kind, seed=cell.seed, status="ok", num_params=3010,
        params={"hidden": 3010}, data_unit="examples", data_unique=cell.data.size,
        epochs=evaluations[-1].data_seen / cell.data.size, flops={}, flops_version=1,
        train_flops_spent=evaluations[-1].train_flops, evaluations=evaluations,
        peak_lr=None if cell.training is None else cell.training.optimizer.peak_lr,
        batch_size=None if cell.training is None else BATCH_SIZE, wall_seconds=1.0, device_kind="cpu", num_devices=1,
        data=manifest, environment={"python": "3"},
    )  # fmt: skip


def tell(
    tracker: Tracker,
    store: Store,
    name: str,
    begin: int = 0,
    stop: int | None = None,
    pause: float = 0.0,
    on_begin: Callable[[], None] = lambda: None,
) -> Record | None:
    """Tells a tracker of a cell that begins at a step, and returns its record; None where it stops before the end."""
    cell = parse(Cell, (store.cell_path(name) / "cell.json").read_text(), name)
    tracker.begin(name, begin)
    on_begin()
    for step in range(begin, (NUM_STEPS if stop is None else stop) if cell.training is not None else 1):
        for point in make_points(cell, step, step + 1):
            tracker.log(name, [point])
        time.sleep(pause)
    record = make_record(cell) if stop is None else None
    if record is not None:
        store.publish(record)
    tracker.end(name, record)
    return record


def complete(store: Store, *names: str) -> None:
    """Writes what a trainer without mirrors leaves of cells, by default of all."""
    for name in names or [*networks_of(store), *estimators_of(store)]:
        tell(CurveFile(store.cell_path), store, name)


def _main() -> None:
    folder, cell, pause = sys.argv[1:]
    store = Store.open(folder)
    mirror = WeightsAndBiases(store, describe=lambda _: END, every_seconds=0.1)

    def say_beside() -> None:
        assert mirror.process is not None
        print(mirror.process.pid, flush=True)

    tell(Together(CurveFile(store.cell_path), {"wandb": mirror}), store, cell, 0, None, float(pause), say_beside)


if __name__ == "__main__":
    _main()
