"""One job, from its cells to what was measured of each, with what is told, kept and resumed on the way.

Dims: P members, S steps of a chunk.
"""

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from scaling.data.feeding.placement import DeviceData, StreamedData
from scaling.data.order.subsets import Subset
from scaling.devices.hardware import mfu
from scaling.devices.processes import fetch, platform_facts
from scaling.learning.pretraining import count_pretraining_flops
from scaling.models.counting.flops import count_flops
from scaling.models.shape import Shape
from scaling.specs.cell import Cell
from scaling.specs.execution import Execution
from scaling.specs.sharing import Tree, trunk_of
from scaling.store.record import Evaluation
from scaling.tracking import Tracker
from scaling.training.checkpoints.keeper import Keeper
from scaling.training.evaluate import Verdict, evaluate_members
from scaling.training.leaf import Leaf, Measured
from scaling.training.loop import Leg, Pace, Place, Watcher, check_streamed, plan_legs, run_job
from scaling.training.population import make_hypers, place_members
from scaling.training.program import Program, get_program

# Training losses are told as means over so many stretches of the longest run.
CURVE_POINTS = 100


def train_together(
    tree: Tree,
    shape: Shape,
    subsets: Sequence[Subset],
    execution: Execution,
    *,
    tracker: Tracker,
    on_measured: Callable[[Cell, Measured], None],
    keeper: Keeper | None = None,
    num_workers: int = 0,
) -> None:
    """Trains the cells of a job, and tells what became of each as soon as its length is done.

    Args:
      tree: the cells.
      shape: of their networks.
      subsets: of each member.
      execution: how to run.
      tracker: is told what happens on the way.
      on_measured: receives each cell with what became of it.
      keeper: of the job's checkpoints; None keeps none.
      num_workers: processes that read streamed data; 0 for threads of this one.

    Raises:
      NotTogether: several members, whose data does not fit side by side.
      InputError: the network or the batch cannot be divided as the execution asks.
      Preempted: a notice has come, and the job is saved.
    """
    began = time.monotonic()
    data, stacked = place_members(tree, subsets, execution, num_workers)
    training = tree.trainings[0]
    program = get_program(shape, training, tree.cells[0][0].data.augmentation, execution, stacked)
    check_streamed(program, data, tree.cells[0][0].data.size)
    legs, hypers = plan_legs(tree.trainings), make_hypers(tree, program.layout)
    run = _Run(tree, shape, legs, program, data, subsets[0], execution, tracker, on_measured, keeper, began)
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
    """What is known of a job while it runs."""

    def __init__(
        self,
        tree: Tree,
        shape: Shape,
        legs: list[Leg],
        program: Program,
        data: DeviceData | StreamedData,
        subset: Subset,
        execution: Execution,
        tracker: Tracker,
        on_measured: Callable[[Cell, Measured], None],
        keeper: Keeper | None,
        began: float,
    ) -> None:
        self._tree, self._legs, self._program, self._data = tree, legs, program, data
        self._source, self._execution = subset.source, execution
        self._tracker, self._on_measured, self._keeper = tracker, on_measured, keeper
        self._leaves = [[Leaf(cell) for cell in member] for member in tree.cells]  # [P][lengths]
        self._began = began  # of the leg
        self._paid = [0] * len(tree.cells)  # steps of each member's path that earlier leaves account for
        self._train_seconds, self._timed_steps, self._leg_train_seconds = 0.0, 0, 0.0
        self._sums = np.zeros(len(tree.cells))  # of training losses, up to where the run is
        self._at_fork = self._sums
        self._window: list[np.ndarray] = []  # losses [P] of the steps since the last point of the curve
        self._window_at_fork: list[np.ndarray] = []
        self._num_resumes = 0
        self._notices: list[str] = []
        training = tree.trainings[0]
        self._tokens = training.batch_size * subset.source.example_tokens  # or examples, seen a step
        self._flops = sum(count_flops(shape).train.values())
        spec = training.pretraining
        self._flops_before = 0.0 if spec is None else count_pretraining_flops(shape, spec, training.batch_size)
        self._stretch = max(1, legs[-1].num_steps // CURVE_POINTS)

    # --- beginning and going on -------------------------------------------------------------------------------------

    def resume(self, seeds: jax.Array) -> Place | None:
        """Returns where a kept job stood, and goes back to what was known there; None when it starts anew."""
        if self._keeper is None:
            return None
        kept = self._keeper.restore(self._program.abstract_state(seeds))
        if kept is None:
            return None
        self._notices.extend(kept.notices)
        facts = kept.facts
        place = self._find_leg(kept.place, facts["fork"])
        leaves = [leaf for member in self._leaves for leaf in member]
        if place is None or not all(leaf.name in facts["leaves"] for leaf in leaves):
            self._notices.append("the checkpoint is of a branch tree with other leaves: training starts anew")
            return None
        for leaf in leaves:
            leaf.restore(facts["leaves"][leaf.name])
        self._sums, self._at_fork = _from_text(facts["sums"]), _from_text(facts["at_fork"])
        self._window, self._window_at_fork = ([*map(_from_text, facts[name])] for name in ("window", "window_at_fork"))
        if place.state is not kept.place.state:
            self._sums, self._window = self._at_fork, list(self._window_at_fork)
            self._paid = [place.step] * len(self._leaves)  # that leaf's record stands
        else:
            self._began -= facts["seconds"]
            self._leg_train_seconds = facts["leg_train_seconds"]
            self._paid = list(facts["paid"])
        self._train_seconds, self._timed_steps = facts["train_seconds"], facts["timed_steps"]
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

    def _find_leg(self, kept: Place, fork: int) -> Place | None:
        """Returns a kept place, whose leg is a number of steps, among the legs that are left; None if it is past them.

        Where that leaf is done since, what is left goes on from where it left the trunk, or was about to.
        """
        lengths = [leg.num_steps for leg in self._legs]
        if kept.leg in lengths:
            return kept._replace(leg=0) if kept.leg == lengths[0] else None
        place = kept if kept.trunk is None else Place(0, fork, kept.trunk, None)
        on_trunk = place.step <= min(fork, self._legs[0].fork)
        return place._replace(leg=0) if on_trunk else None

    def begin(self, place: Place) -> None:
        """Tells that the job begins, or goes on, at a place."""
        for member in self._leaves:
            for leaf in member[place.leg :]:
                self._tracker.begin(leaf.name, place.step)

    # --- between chunks ---------------------------------------------------------------------------------------------

    def note_chunk(self, leg: int, step: int, losses: np.ndarray, seconds: float | None) -> None:
        losses = losses.reshape(len(losses), len(self._leaves)).astype(np.float64)  # [S, P]
        # One after another, so that the sum does not depend on where chunks end.
        self._sums = np.add.accumulate(np.vstack([self._sums, losses]))[-1]
        if seconds is not None:
            self._train_seconds += seconds
            self._timed_steps += len(losses)
            self._leg_train_seconds += seconds
        points: list[tuple[int, np.ndarray]] = []
        for number, row in enumerate(losses, step - len(losses) + 1):
            self._window.append(row)
            if number % self._stretch == 0:
                points.append((number, np.mean(self._window, axis=0)))
                self._window.clear()
        if not points:
            return
        rate = {} if not seconds else {"steps_per_second": len(losses) / seconds}
        utilization = self._mfu()
        rate |= {} if utilization is None else {"mfu": utilization}
        for index, leaf in self._on_path(leg, step):
            if leaf.status is not None:
                continue
            told = [{"step": at, "train_loss": _number(means[index]), **rate} for at, means in points]
            self._tracker.log(leaf.name, told)

    def evaluate(self, place: Place) -> None:
        diverged_at = np.atleast_1d(fetch(place.state.diverged_at))  # [P]
        on_path = list(self._on_path(place.leg, place.step))
        spikes = np.atleast_1d(fetch(place.state.monitor.spikes))
        wanted = [leaf for _, leaf in on_path if place.step in leaf.stops and leaf.status is None]
        verdicts = averages = None
        if wanted and (diverged_at < 0).any():
            verdicts = self._judge(place.state.variables)
            if place.state.average:
                averages = self._judge({**place.state.variables, "params": place.state.average})
        scales = self._noise_scales(place)
        for index, leaf in on_path:
            if leaf.status is not None:
                continue
            leaf.spikes = int(spikes[index])
            if diverged_at[index] >= 0:
                self._add(leaf, int(diverged_at[index]), None, {})
                leaf.status = "diverged"
            elif verdicts is not None and place.step in leaf.stops:
                extra = self._extra_metrics(leaf, index, place.step, scales)
                if averages is not None:
                    found = averages[index]
                    extra |= {
                        f"ema_{name}": value
                        for name, value in {"loss": found.loss, **found.metrics}.items()
                        if value is not None
                    }
                self._take(leaf, place.step, verdicts[index], extra)
        if place.step == self._legs[place.leg].fork:
            self._at_fork, self._window_at_fork = self._sums, list(self._window)

    def _judge(self, variables: Any) -> list[Verdict]:
        standard, mesh = self._data.standard, self._execution.mesh
        return evaluate_members(self._program, variables, self._source, standard, mesh)

    def _take(self, leaf: Leaf, step: int, verdict: Verdict, extra: dict[str, float]) -> None:
        self._add(leaf, step, verdict.loss, verdict.metrics | extra if verdict.loss is not None else {})
        target = leaf.training.target_loss
        if verdict.loss is None:
            leaf.status = "diverged"
        elif target is not None and verdict.loss <= target:
            leaf.status, leaf.steps_to_target = "ok", step

    def _add(self, leaf: Leaf, step: int, loss: float | None, metrics: dict[str, float]) -> None:
        seen = step * self._tokens
        flops = self._flops_before + seen * self._flops
        evaluation = Evaluation(step=step, data_seen=seen, train_flops=flops, loss=loss, metrics=metrics)
        leaf.evaluations.append(evaluation)
        self._tracker.log(leaf.name, [evaluation.model_dump(mode="json")])

    def _extra_metrics(self, leaf: Leaf, index: int, step: int, scales: np.ndarray | None) -> dict[str, float]:
        before, total = leaf.marked
        leaf.marked = (step, float(self._sums[index]))
        mean = (float(self._sums[index]) - total) / (step - before)
        found = {"train_loss": mean} if np.isfinite(mean) else {}
        if scales is not None and np.isfinite(scales[index]):
            found["noise_scale"] = float(scales[index])
        return found

    def _noise_scales(self, place: Place) -> np.ndarray | None:
        """Returns the gradient noise scale of each member in examples, NaN where the estimates are not positive."""
        training = self._tree.trainings[0]
        if training.noise_scale_parts is None:
            return None
        monitor = place.state.monitor
        noise, signal = (np.atleast_1d(fetch(x)) for x in (monitor.noise, monitor.signal))
        positive = (noise > 0) & (signal > 0)
        return np.where(positive, training.batch_size * noise / np.where(positive, signal, 1.0), np.nan)

    def is_over(self, leg: int) -> bool:
        return all(member[leg].status is not None for member in self._leaves)

    def keep(self, place: Place) -> None:
        if self._keeper is not None:
            self._keeper.consider(place, self._legs, self._facts)

    def _facts(self) -> dict[str, Any]:
        return {
            "leaves": {leaf.name: leaf.state() for member in self._leaves for leaf in member},
            "sums": _to_text(self._sums),
            "at_fork": _to_text(self._at_fork),
            "window": [*map(_to_text, self._window)],
            "window_at_fork": [*map(_to_text, self._window_at_fork)],
            "paid": self._paid,
            "seconds": time.monotonic() - self._began,
            "train_seconds": self._train_seconds,
            "leg_train_seconds": self._leg_train_seconds,
            "timed_steps": self._timed_steps,
            "num_resumes": self._num_resumes,
            "platform": platform_facts(),
        }

    def _on_path(self, leg: int, step: int) -> Iterator[tuple[int, Leaf]]:
        """Yields (number of the member, leaf) of all leaves whose run goes through a step of a leg."""
        on_trunk = step <= self._legs[leg].fork
        for index, member in enumerate(self._leaves):
            for leaf in member[leg:] if on_trunk else member[leg : leg + 1]:
                yield index, leaf

    def _mfu(self) -> float | None:
        """Returns the job's model FLOPs utilisation so far; None where the device's peak is not known."""
        if not self._timed_steps:
            return None
        rate = self._timed_steps * self._tokens * len(self._leaves) / self._train_seconds
        kind, precision = jax.devices()[0].device_kind, self._tree.trainings[0].precision
        return mfu(rate, self._flops, self._execution.mesh.num_devices, kind, precision)

    # --- the end of a leg -------------------------------------------------------------------------------------------

    def finish(self, leg: int) -> None:
        now = time.monotonic()
        wall, train = now - self._began, self._leg_train_seconds
        count = len(self._leaves)
        has_branches = len(self._tree.cells[0]) > 1
        waiting = None
        if isinstance(self._data, StreamedData):
            waiting, self._data.waiting_seconds = self._data.waiting_seconds, 0.0
        for index, member in enumerate(self._leaves):
            leaf = member[leg]
            last = leaf.evaluations[-1]
            spikes = leaf.spikes
            notices = list(self._notices)
            if spikes:
                notices.append(f"the training loss spiked at {spikes} steps")
            measured = Measured(
                status=leaf.status or "ok",
                evaluations=tuple(leaf.evaluations),
                trunk=trunk_of(leaf.cell) if has_branches else None,
                spent_steps=max(0, (last.step or 0) - self._paid[index]),
                wall_seconds=wall / count,
                train_seconds=train / count,
                waiting_seconds=waiting,
                mfu=self._mfu(),
                steps_to_target=leaf.steps_to_target,
                loss_spikes=spikes,
                num_resumes=self._num_resumes,
                notices=tuple(notices),
            )
            self._on_measured(leaf.cell, measured)
            self._paid[index] = max(self._paid[index], min(last.step or 0, self._legs[leg].fork))
        self._began, self._leg_train_seconds = now, 0.0
        self._sums, self._window = self._at_fork, list(self._window_at_fork)


def _number(value: float) -> float | None:
    """Returns a number for JSON, which has no infinities."""
    return float(value) if np.isfinite(value) else None


def _to_text(numbers: np.ndarray) -> list[str]:
    """Returns numbers, finite or not, as texts that keep every bit."""
    return [float(number).hex() for number in numbers]


def _from_text(texts: list[str]) -> np.ndarray:
    return np.array([float.fromhex(text) for text in texts])
