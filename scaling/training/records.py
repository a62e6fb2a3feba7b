"""From what was measured of a cell to its record."""

import functools
import importlib.metadata
import platform
from collections.abc import Collection, Sequence
from typing import Any

import jax

from scaling.data.loading import load_sets
from scaling.data.order.subsets import Subset, digest_prefixes
from scaling.data.source import Source
from scaling.devices.hardware import price_per_hour
from scaling.devices.processes import visible_cores
from scaling.learning.metrics import resolve_metrics
from scaling.learning.pretraining import pretraining_flops
from scaling.models.counting.flops import EVERY_TERM, FLOPS_VERSION, count_flops
from scaling.models.counting.params import count_by_convention, count_params
from scaling.models.shape import Shape
from scaling.specs.cell import Cell, NetworkCell
from scaling.specs.code import references_in
from scaling.specs.data import count_unique
from scaling.specs.execution import Execution
from scaling.specs.metrics import is_reference
from scaling.specs.sharing import Tree
from scaling.specs.task import TaskShape
from scaling.store.code import code_versions
from scaling.store.record import Evaluation, EvaluationManifest, Record, SubsetManifest
from scaling.training.leaf import Measured


class Recorder:
    """Makes the records of a job's cells.

    Args:
      tree: the cells.
      subsets: the subsets of each member.
      shape: the shape of their networks.
      study_sizes: subset sizes of the whole study.
      execution: how the job is run.
    """

    def __init__(
        self, tree: Tree, subsets: Sequence[Subset], shape: Shape, study_sizes: Collection[int], execution: Execution
    ) -> None:
        self._subsets, self._shape, self._study_sizes, self._execution = subsets, shape, study_sizes, execution
        self._member_of = {cell: number for number, leaves in enumerate(tree.cells) for cell in leaves}
        self._manifests: dict[int, SubsetManifest] = {}  # by member, whose leaves have one subset

    def record(self, cell: NetworkCell, measured: Measured) -> Record:
        """Returns the record of a cell."""
        member = self._member_of[cell]
        subset = self._subsets[member]
        if member not in self._manifests:
            self._manifests[member] = make_manifest(cell, subset, self._study_sizes)
        return network_record(cell, self._shape, subset.source, self._manifests[member], measured, self._execution)


def network_record(
    cell: NetworkCell, shape: Shape, source: Source, data: SubsetManifest, measured: Measured, execution: Execution
) -> Record:
    """Returns the record of a network's cell."""
    training = cell.training
    last, flops_before = measured.evaluations[-1], pretraining_flops(shape, training)
    step_examples = training.batch_size * source.example_tokens
    flops = {term: count * last.data_seen for term, count in count_flops(shape, EVERY_TERM).train.items()}
    spent = measured.spent_steps * step_examples * sum(count_flops(shape).train.values())
    is_first = measured.spent_steps == last.step  # a later leaf does not pay for what came before its fork
    return Record(
        **common_fields(cell, source, data, shape.task, last),
        status="diverged" if measured.status == "diverged" else "ok",
        trunk=measured.trunk,
        num_params=count_by_convention(shape, cell.model.convention),
        num_params_convention=cell.model.convention,
        params=count_params(shape),
        flops=flops | ({"pretraining": flops_before} if flops_before else {}),
        train_flops_spent=spent + (flops_before if is_first else 0.0),
        evaluations=measured.evaluations,
        peak_lr=training.optimizer.peak_lr,
        batch_size=training.batch_size,
        wall_seconds=measured.wall_seconds,
        price_per_hour=price_per_hour(jax.devices()[0].device_kind, execution.mesh.num_devices),
        train_seconds=measured.train_seconds,
        waiting_seconds=measured.waiting_seconds,
        device_kind=jax.devices()[0].device_kind,
        num_devices=execution.mesh.num_devices,
        mfu=measured.mfu,
        steps_to_target=measured.steps_to_target,
        loss_spikes=measured.loss_spikes,
        execution=execution.model_dump(mode="json", exclude_defaults=True),
        num_resumes=measured.num_resumes,
        warnings=measured.notices,
    )


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
