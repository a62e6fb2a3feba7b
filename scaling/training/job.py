"""One job, from its cells to what was measured of each, with what is told, kept and resumed on the way.

Dims: P members, S steps of a chunk.
"""

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from scaling.data.feeding.placement import DeviceData, StreamedData
from scaling.data.loading import load_sets
from scaling.data.order.subsets import Subset
from scaling.data.source import Source
from scaling.devices.hardware import mfu
from scaling.devices.processes import fetch, platform_facts
from scaling.devices.sharding import check_division
from scaling.learning.metrics import resolve_metrics
from scaling.learning.pretraining import pretraining_flops
from scaling.models.counting.flops import count_flops
from scaling.models.shape import Shape
from scaling.specs.cell import NetworkCell
from scaling.specs.execution import Execution
from scaling.specs.sharing import Tree, trunk_of
from scaling.store.record import Evaluation
from scaling.tracking import Tracker
from scaling.training.clock import Clock
from scaling.training.evaluate import Verdict, evaluate_members, noise_scales
from scaling.training.leaf import Leaf, Leaves, Measured
from scaling.training.loop import Leg, Pace, Place, Watcher, check_streamed, plan_legs, run_job
from scaling.training.population import make_hypers, place_members
from scaling.training.program import Program, get_program
from scaling.training.window import LossWindow

if TYPE_CHECKING:  # Orbax is loaded where there are checkpoints
    from scaling.training.checkpoints.keeper import Keeper


def train_together(
    tree: Tree,
    shape: Shape,
    subsets: Sequence[Subset],
    execution: Execution,
    *,
    tracker: Tracker,
    on_measured: Callable[[NetworkCell, Measured], None],
    keeper: "Keeper | None" = None,
    num_workers: int = 0,
) -> None:
    """Trains the cells of a job, and tells what became of each as soon as its length is done.

    Args:
      tree: the cells.
      shape: the shape of their networks.
      subsets: the subsets of each member.
      execution: how to run.
      tracker: is told what happens on the way.
      on_measured: receives each cell with what became of it.
      keeper: the keeper of the job's checkpoints; None keeps none.
      num_workers: processes that read streamed data; 0 for threads of this one.

    Raises:
      NotTogether: several members, whose data does not fit side by side.
      InputError: the network or the batch cannot be divided as the execution asks.
      Preempted: a notice has come, and the job is saved.
    """
    began = time.monotonic()
    check_division(shape, tree.trainings[0].batch_size, execution)
    data, stacked = place_members(tree, subsets, execution, num_workers)
    training = tree.trainings[0]
    asked = tree.cells[0][0].data  # of which members differ in values alone
    metrics, sets = resolve_metrics(asked.metrics), load_sets(asked)
    program = get_program(shape, training, asked.augmentation, execution, stacked, metrics)
    check_streamed(program, data, asked.size)
    legs, hypers = plan_legs(tree.trainings), make_hypers(tree, program.layout)
    source = subsets[0].source
    run = _Run(tree, shape, legs, program, data, source, sets, execution, tracker, on_measured, keeper, began)
    start = run.resume(hypers[0].seed)
    if start is None:
        state = program.init(hypers[0].seed)
        if program.pretrain is not None:
            assert isinstance(data, DeviceData)  # noqa: S101  (check_streamed)
            state = program.pretrain(state, hypers[0], data)
        start = Place(0, 0, state, None)
    run.begin(start)
    run_job(program, legs, hypers, data, start, _pace_of(program, execution), run)


_paces: weakref.WeakKeyDictionary[Program, Pace] = weakref.WeakKeyDictionary()


def _pace_of(program: Program, execution: Execution) -> Pace:
    """Returns the pace that a program has shown in this process."""
    if execution.chunk_steps is not None:
        return Pace(execution.chunk_steps)
    return _paces.setdefault(program, Pace())


class _Run(Watcher):
    """What a job does between its chunks: it tells, evaluates, keeps and concludes.

    What it knows while it runs is in values that save and restore themselves: its leaves, their losses, its clock.
    """

    def __init__(
        self,
        tree: Tree,
        shape: Shape,
        legs: list[Leg],
        program: Program,
        data: DeviceData | StreamedData,
        source: Source,
        sets: Mapping[str, Source],
        execution: Execution,
        tracker: Tracker,
        on_measured: Callable[[NetworkCell, Measured], None],
        keeper: "Keeper | None",
        began: float,
    ) -> None:
        self._training, self._legs, self._program, self._data = tree.trainings[0], legs, program, data
        self._source, self._sets, self._execution = source, sets, execution
        self._tracker, self._on_measured, self._keeper = tracker, on_measured, keeper
        self._leaves = Leaves(tree, legs)
        self._losses = LossWindow(len(tree.cells), legs[-1].num_steps)
        self._clock = Clock(began)
        self._num_resumes = 0
        self._notices: list[str] = []
        self._tokens = self._training.batch_size * source.example_tokens  # or examples, seen a step
        self._flops = sum(count_flops(shape).train.values())
        self._flops_before = pretraining_flops(shape, self._training)

    # --- beginning and going on -------------------------------------------------------------------------------------

    def resume(self, seeds: jax.Array) -> Place | None:
        """Returns where a kept job stood, and goes back to what was known there; None when it starts anew."""
        kept = None if self._keeper is None else self._keeper.restore(self._program.abstract_state(seeds))
        if kept is None:
            return None
        self._notices.extend(kept.notices)
        facts = kept.facts
        place = find_leg(self._legs, kept.place, facts["fork"])
        if place is None or not self._leaves.are_in(facts):
            self._notices.append("the checkpoint is of a branch tree with other leaves: training starts anew")
            return None
        in_leg = place.state is kept.place.state  # else the leaf's record stands: what is left goes on from its fork
        self._leaves.restore(facts, paid_steps=None if in_leg else place.step)
        self._losses.restore(facts)
        self._clock.restore(facts, in_leg=in_leg)
        if not in_leg:
            self._losses.return_to_fork()
        self._num_resumes = facts["num_resumes"] + 1
        changed = [
            f"{name} {facts['platform'].get(name)} then, {value} now"
            for name, value in platform_facts().items()
            if facts["platform"].get(name) != value
        ]
        if changed:
            words = f"resumed at step {place.step} on another platform, so not to the bit: {'; '.join(changed)}"
            self._notices.append(words)
        return place

    def begin(self, place: Place) -> None:
        """Tells that the job begins, or goes on, at a place."""
        for leaf in self._leaves.left(place.leg):
            self._tracker.begin(leaf.name, place.step)

    # --- between chunks ---------------------------------------------------------------------------------------------

    def note_chunk(self, leg: int, step: int, losses: np.ndarray, seconds: float | None) -> None:
        losses = losses.reshape(len(losses), len(self._leaves)).astype(np.float64)  # [S, P]
        points = self._losses.add(step, losses)
        if seconds is not None:
            self._clock.note(len(losses), seconds)
        if not points:
            return
        rate = {} if not seconds else {"steps_per_second": len(losses) / seconds}
        utilization = self._mfu()
        rate |= {} if utilization is None else {"mfu": utilization}
        for member, leaf in self._leaves.on_path(leg, step):
            if leaf.status is None:
                curve = [{"step": at, "train_loss": _number(means[member]), **rate} for at, means in points]
                self._tracker.log(leaf.name, curve)

    def evaluate(self, place: Place) -> None:
        diverged_at = np.atleast_1d(fetch(place.state.diverged_at))  # [P]
        spikes = np.atleast_1d(fetch(place.state.monitor.spikes))  # [P]
        open_leaves = [pair for pair in self._leaves.on_path(place.leg, place.step) if pair[1].status is None]
        is_asked = any(place.step in leaf.stops for _, leaf in open_leaves)
        verdicts = self._judge(place) if is_asked and (diverged_at < 0).any() else None
        for member, leaf in open_leaves:
            leaf.spikes = int(spikes[member])
            if diverged_at[member] >= 0:
                self._add(leaf, int(diverged_at[member]), Verdict(None, {}))
                leaf.status = "diverged"
            elif verdicts is not None and place.step in leaf.stops:
                means = leaf.mark_loss(place.step, float(self._losses.sums[member]))
                self._take(leaf, place.step, verdicts[member].joined(means))
        if place.step == self._legs[place.leg].fork:
            self._losses.mark_fork()

    def _judge(self, place: Place) -> list[Verdict]:
        """Returns the verdict on each member, with that on its averaged weights and its noise scale as metrics."""

        def judge(variables: Any) -> list[Verdict]:
            standard, mesh = self._data.standard, self._execution.mesh
            verdicts = evaluate_members(self._program, variables, self._source, standard, mesh)
            for name, source in self._sets.items():
                others = evaluate_members(self._program, variables, source, standard, mesh)
                verdicts = [own.joined(other.named(name)) for own, other in zip(verdicts, others, strict=True)]
            return verdicts

        verdicts = judge(place.state.variables)
        if place.state.average:
            averages = judge({**place.state.variables, "params": place.state.average})
            verdicts = [own.joined(of_average.named("ema")) for own, of_average in zip(verdicts, averages, strict=True)]
        scales = noise_scales(place.state.monitor, self._training)
        return [own.joined(scale) for own, scale in zip(verdicts, scales, strict=True)] if scales else verdicts

    def _take(self, leaf: Leaf, step: int, verdict: Verdict) -> None:
        self._add(leaf, step, verdict)
        target = leaf.training.target_loss
        if verdict.loss is None:
            leaf.status = "diverged"
        elif target is not None and verdict.loss <= target:
            leaf.status, leaf.steps_to_target = "ok", step

    def _add(self, leaf: Leaf, step: int, verdict: Verdict) -> None:
        seen = step * self._tokens
        evaluation = Evaluation(
            step=step,
            data_seen=seen,
            train_flops=self._flops_before + seen * self._flops,
            loss=verdict.loss,
            metrics=verdict.metrics,
        )
        leaf.evaluations.append(evaluation)
        self._tracker.log(leaf.name, [evaluation.model_dump(mode="json")])

    def is_over(self, leg: int) -> bool:
        return all(leaf.status is not None for leaf in self._leaves.of_leg(leg))

    def keep(self, place: Place) -> None:
        if self._keeper is not None:
            self._keeper.consider(place, self._legs, self._facts)

    def _facts(self) -> dict[str, Any]:
        known = {"num_resumes": self._num_resumes, "platform": platform_facts()}
        return {**self._leaves.state(), **self._losses.state(), **self._clock.state(), **known}

    def _mfu(self) -> float | None:
        """Returns the job's model FLOPs utilisation so far; None where the device's peak is not known."""
        if not self._clock.timed_steps:
            return None
        rate = self._clock.timed_steps * self._tokens * len(self._leaves) / self._clock.train_seconds
        kind, num_devices = jax.devices()[0].device_kind, self._execution.mesh.num_devices
        return mfu(rate, self._flops, num_devices, kind, self._training.precision)

    # --- the end of a leg -------------------------------------------------------------------------------------------

    def finish(self, leg: int) -> None:
        taken, utilization, num_members = self._clock.finish_leg(), self._mfu(), len(self._leaves)
        waiting = self._data.take_waiting_seconds() if isinstance(self._data, StreamedData) else None
        for leaf, spent_steps in zip(self._leaves.of_leg(leg), self._leaves.charge(leg), strict=True):
            spiked = [f"the training loss spiked at {leaf.spikes} steps"] if leaf.spikes else []
            measured = Measured(
                status=leaf.status or "ok",
                evaluations=tuple(leaf.evaluations),
                trunk=trunk_of(leaf.cell) if self._leaves.has_branches else None,
                spent_steps=spent_steps,
                wall_seconds=taken.wall_seconds / num_members,
                train_seconds=taken.train_seconds / num_members,
                waiting_seconds=waiting,
                mfu=utilization,
                steps_to_target=leaf.steps_to_target,
                loss_spikes=leaf.spikes,
                num_resumes=self._num_resumes,
                notices=(*self._notices, *spiked),
            )
            self._on_measured(leaf.cell, measured)
        self._losses.return_to_fork()


def find_leg(legs: Sequence[Leg], kept: Place, fork: int) -> Place | None:
    """Returns a kept place, whose leg is a number of steps, among the legs that are left; None if it is past them.

    Where that leaf is done since, what is left goes on from where it left the trunk, or was about to.

    Args:
      legs: that are left.
      kept: the place.
      fork: the step at which its leg leaves the trunk.
    """
    lengths = [leg.num_steps for leg in legs]
    if kept.leg in lengths:
        return kept._replace(leg=0) if kept.leg == lengths[0] else None
    place = kept if kept.trunk is None else Place(0, fork, kept.trunk, None)
    on_trunk = place.step <= min(fork, legs[0].fork)
    return place._replace(leg=0) if on_trunk else None


def _number(value: float) -> float | None:
    """Returns a number for JSON, which has no infinities."""
    return float(value) if np.isfinite(value) else None
