"""A toy study of four cells, and records as they could have made."""

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import LogisticRegressionSpec
from scaling.specs.study import Series, Study
from scaling.store.record import Evaluation, Record, SubsetManifest

CELLS = tuple(
    Cell(model=LogisticRegressionSpec(), data=DataSpec(source=DigitsSource(), size=size), seed=seed)
    for size in (10, 20)
    for seed in (0, 1)
)
STUDY = Study(name="toy", question="?", metric="error", series=(Series(label="linear", cells=CELLS),))


def make_record(cell: Cell, **changes) -> Record:
    manifest = SubsetManifest(
        source="digits",
        source_sha256="0",
        order="independent",
        seed=cell.seed,
        size=cell.data.size,
        digests={},
        class_counts=(5, 5),
        evaluation_size=5,
        evaluation_sha256="1",
    )
    evaluations = tuple(
        Evaluation(step=step, data_seen=8 * step, train_flops=80.0 * step, loss=1 / step, metrics={"error": 0.5 / step})
        for step in (1, 2)
    )
    values = {
        "cell": cell.fingerprint(),
        "family": cell.model.kind,
        "seed": cell.seed,
        "status": "ok",
        "num_params": 10,
        "params": {"head": 10},
        "data_unit": "examples",
        "data_unique": cell.data.size,
        "epochs": 1.6,
        "flops": {"logits": 160.0},
        "flops_version": 1,
        "train_flops_spent": 160.0,
        "evaluations": evaluations,
        "peak_lr": 0.1,
        "batch_size": 8,
        "wall_seconds": 1.0,
        "device_kind": "cpu",
        "num_devices": 1,
        "data": manifest,
        "environment": {},
    }
    return Record(**{**values, **changes})
