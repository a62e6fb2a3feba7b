"""Stores of records whose laws and crossing are known by construction."""

import numpy as np

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import LogisticRegressionSpec
from scaling.specs.study import FitSpec, Series, Study
from scaling.store.record import Evaluation, Record, SubsetManifest
from scaling.store.store import Store

SIZES = (100, 200, 400, 800, 1600, 3200)


SEEDS = (0, 1, 2, 3)


# Errors that rise above each other by construction: `flat` leads early, `steep` from the crossing at m = 400 on.
LAWS = {"flat": (0.2, 2.0, 0.5), "steep": (0.0, 8.0, 0.5477), "<b>third</b>": (0.5, 2.0, 0.5)}


def make_record(cell: Cell, error: float, status: str = "ok", num_evaluations: int = 1) -> Record:
    evaluations = tuple(
        Evaluation(
            step=None if num_evaluations == 1 else number,
            data_seen=cell.data.size * number // num_evaluations,
            train_flops=None,
            loss=None,
            metrics={"error": value, "accuracy": 1.0 - value},
        )
        for number in range(1, num_evaluations + 1)
        for value in [error * (num_evaluations / number) ** 0.1]
    )
    manifest = SubsetManifest(
        source="digits",
        source_sha256="a" * 64,
        order="independent",
        seed=cell.seed,
        size=cell.data.size,
        digests={str(size): f"{cell.seed}-{size}" for size in SIZES if size <= cell.data.size},
        class_counts=(1,),
        evaluation_size=100,
        evaluation_sha256="b" * 64,
    )
    return Record(
        cell=cell.fingerprint(), family=cell.model.kind, seed=cell.seed, status=status, num_params=10, params={},
        data_unit="examples", data_unique=cell.data.size, epochs=1.0, flops={}, flops_version=1, train_flops_spent=None,
        evaluations=evaluations, peak_lr=None, batch_size=None, wall_seconds=1.0, device_kind="cpu", num_devices=1,
        data=manifest, environment={"python": "3"},
    )  # fmt: skip


def make_store(
    path, laws=LAWS, noise=0.002, sizes=SIZES, smallest_size=1, metric="error", seeds=SEEDS, num_evaluations=1
) -> Store:
    generator = np.random.default_rng(0)
    series, records = [], []
    for rank, (label, (floor, scale, exponent)) in enumerate(laws.items()):
        cells = []
        for m in sizes:
            for seed in seeds:
                model = LogisticRegressionSpec(inverse_regularization=1.0 + rank)
                cell = Cell(model=model, data=DataSpec(source=DigitsSource(), size=m), seed=seed)
                error = (floor + scale * m**-exponent) * np.exp(generator.normal(0, noise))
                cells.append(cell)
                records.append(make_record(cell, float(error), num_evaluations=num_evaluations))
        series.append(Series(label=label, cells=tuple(cells)))
    fit = FitSpec(delta=0.05, smallest_size=smallest_size)
    study = Study(name="toy", question="Who leads?", metric=metric, fit=fit, series=tuple(series))
    store = Store(path)
    store.create(study.canonical_json())
    for record in records:
        store.publish(record)
    return store
