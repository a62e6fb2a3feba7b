"""From what was measured of a network's cell to its record."""

from collections.abc import Collection, Sequence

import jax

from scaling.data.order.subsets import Subset
from scaling.data.source import Source
from scaling.devices.hardware import price_per_hour
from scaling.learning.pretraining import pretraining_flops
from scaling.models.counting.flops import EVERY_TERM, count_flops
from scaling.models.counting.params import count_by_convention, count_params
from scaling.models.shape import Shape
from scaling.specs.cell import NetworkCell
from scaling.specs.execution import Execution
from scaling.specs.sharing import Tree
from scaling.store.record import Record, SubsetManifest
from scaling.training.leaf import Measured
from scaling.training.records import common_fields, make_manifest


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
