"""What records of networks and of estimators have in common: where from, on what, and the proof of what was seen."""

import functools
import importlib.metadata
import platform
from collections.abc import Collection
from typing import Any

from scaling.data.loading import load_sets
from scaling.data.order.subsets import Subset, digest_prefixes
from scaling.data.source import Source
from scaling.devices.processes import visible_cores
from scaling.learning.metrics import resolve_metrics
from scaling.models.counting.flops import FLOPS_VERSION
from scaling.specs.cell import Cell
from scaling.specs.code import references_in
from scaling.specs.data import count_unique
from scaling.specs.metrics import is_reference
from scaling.specs.task import TaskShape
from scaling.store.code import code_versions
from scaling.store.record import Evaluation, EvaluationManifest, SubsetManifest


def common_fields(
    cell: Cell, source: Source, data: SubsetManifest, task: TaskShape, last: Evaluation
) -> dict[str, Any]:
    """Returns the fields that records of networks and of estimators have in common."""
    data_unique = count_unique(data.size, data.duplication) * source.example_tokens
    return {
        "cell": cell.fingerprint(),
        "family": cell.model.kind,
        "seed": cell.seed,
        "data_unit": "tokens" if task.predicts_tokens else "examples",
        "data_unique": data_unique,
        "epochs": last.data_seen / data_unique,
        "flops_version": FLOPS_VERSION,
        "data": data,
        "environment": _environment(),
        "code": _code(tuple(references_in(cell))),
    }


def make_manifest(cell: Cell, subset: Subset, study_sizes: Collection[int]) -> SubsetManifest:
    """Returns the proof of what a cell saw."""
    source = subset.source
    return SubsetManifest(
        source=source.name,
        source_sha256=source.sha256,
        order=cell.data.order,
        seed=cell.seed,
        size=cell.data.size,
        digests=digest_prefixes(subset.identities(), {*study_sizes, cell.data.size}),
        class_counts=subset.class_counts(),
        evaluation_size=source.evaluation_size,
        evaluation_sha256=source.eval_sha256,
        num_unique=subset.num_unique,
        label_noise=cell.data.label_noise,
        num_noisy=subset.num_noisy(),
        duplication=cell.data.duplication,
        in_evaluation=subset.num_in_evaluation(),
        facts=source.facts,
        evaluation_sets=tuple(
            EvaluationManifest(
                name=name,
                source=each.name,
                size=each.evaluation_size,
                sha256=each.eval_sha256,
                in_evaluation=subset.num_in_evaluation(each),
            )
            for name, each in load_sets(cell.data).items()
        ),
        metrics=tuple(metric.facts for metric in resolve_metrics(tuple(filter(is_reference, cell.data.metrics)))),
    )


@functools.lru_cache(maxsize=256)
def _code(references: tuple[str, ...]) -> dict[str, str]:
    return code_versions(references) if references else {}


@functools.cache
def _environment() -> dict[str, str]:
    packages = ("scaling", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        "platform": platform.machine(),
        "threads": str(visible_cores()),
        **{package: importlib.metadata.version(package) for package in packages},
    }
