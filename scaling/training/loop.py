"""The loop of one job: legs of steps in chunks, from a start or a checkpoint, with stops to evaluate and to save."""

import collections
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.data.feeding.placement import DeviceData, StreamedData
from scaling.devices.processes import agree
from scaling.learning.step import Hyper, TrainState
from scaling.specs.base import InputError
from scaling.specs.schedules import WSDSchedule
from scaling.specs.training import TrainingSpec
from scaling.training.program import MAX_CHUNK, Program

# A chunk is as many steps as take about so long: losses come back, signals are seen and the clock is read once a chunk.
CHUNK_SECONDS = 1.0

# Chunks of a stream that the device has been given and has not finished: one that runs and one that follows it.
CHUNKS_RUNNING = 2


class Leg(NamedTuple):
    """A part of a branch tree: along the trunk to a fork, then down one leaf. A run without branches is one leg.

    Attributes:
      num_steps: the number of steps of the leaf's whole run.
      fork: step at which the leaf leaves the trunk.
      stops: steps after which something is evaluated, in order; the last is the leaf's end.
    """

    num_steps: int
    fork: int
    stops: tuple[int, ...]


class Place(NamedTuple):
    """Where a job stands.

    Attributes:
      leg: number of the leg.
      step: steps done, from the beginning of the trunk.
      state: there.
      trunk: the state at the leg's fork, when it has been passed and another leg follows; else None.
    """

    leg: int
    step: int
    state: TrainState
    trunk: TrainState | None


class Watcher:
    """What a job does between chunks; does nothing itself."""

    def evaluate(self, place: Place) -> None:
        """Is called at every stop."""

    def is_over(self, leg: int) -> bool:
        """Returns whether nothing more is to be learnt from a leaf: it has diverged or reached its target."""
        return False

    def note_chunk(self, leg: int, step: int, losses: np.ndarray, seconds: float | None) -> None:
        """Is called with the losses [S] or [S, P] of the steps up to `step`.

        `seconds` is how long they took; None where something was compiled meanwhile.
        """

    def keep(self, place: Place) -> None:
        """Is called between chunks, and after every stop: the state may be saved."""

    def finish(self, leg: int) -> None:
        """Is called at the end of every leg."""


def evaluation_steps(training: TrainingSpec) -> list[int]:
    """Returns the steps after which a run is evaluated: each twice the one before, the last at the end.

    Or every so many steps, where the training says so. A decay is evaluated before it begins, too.

    >>> from scaling.specs.training import SGDSpec
    >>> evaluation_steps(TrainingSpec(optimizer=SGDSpec(peak_lr=1.0), num_steps=1000, num_evaluations=4))
    [125, 250, 500, 1000]
    """
    num_steps = training.num_steps
    if training.evaluate_every is None:
        stops = {max(1, round(num_steps / 2**halvings)) for halvings in range(training.num_evaluations)}
    else:
        stops = {*range(training.evaluate_every, num_steps, training.evaluate_every), num_steps}
    if isinstance(training.schedule, WSDSchedule):
        stops.add(training.schedule.decay_start(num_steps))
    return sorted(stops - {0})


def plan_legs(trainings: Sequence[TrainingSpec]) -> list[Leg]:
    """Returns the legs of runs that differ in their number of steps alone, shortest first.

    Only runs whose learning rate does not know the number of steps before it decays can share a trunk.
    """
    legs = []
    stops = [evaluation_steps(training) for training in trainings]
    done = 0
    for number, training in enumerate(trainings):
        fork = training.schedule.horizon(training.num_steps).stable_steps
        on_trunk = {stop for later in stops[number:] for stop in later if done < stop <= fork}
        in_leaf = {stop for stop in stops[number] if stop > fork}
        last = number == len(trainings) - 1
        legs.append(
            Leg(training.num_steps, fork, tuple(sorted(on_trunk | in_leaf | (set() if last else {fork} - {0}))))
        )
        done = fork
    return legs


class Pace:
    """How many steps make a chunk: as many as take CHUNK_SECONDS, by what the program's last chunks took.

    Args:
      chunk_steps: always so many; None lets time decide.
    """

    def __init__(self, chunk_steps: int | None = None) -> None:
        self._steps = 1 if chunk_steps is None else min(chunk_steps, MAX_CHUNK)
        self._is_fixed = chunk_steps is not None
        self.has_run = False

    def chunk(self, most: int) -> int:
        """Returns the steps of the next chunk; the same on all processes."""
        return min(self._steps if self._is_fixed else agree(self._steps), most)

    def note(self, num_steps: int, seconds: float) -> float | None:
        """Takes what a chunk took; returns it, or None for the first, in which the program was compiled."""
        if not self.has_run:
            self.has_run = True
            self._steps = self._steps if self._is_fixed else 8
            return None
        if not self._is_fixed:
            wanted = round(num_steps * CHUNK_SECONDS / max(seconds, 1e-6))
            self._steps = max(1, min(wanted, 8 * max(num_steps, self._steps), MAX_CHUNK))
        return seconds


def run_job(
    program: Program,
    legs: Sequence[Leg],
    hypers: Sequence[Hyper],
    data: DeviceData | StreamedData,
    start: Place,
    pace: Pace,
    watcher: Watcher,
) -> None:
    """Trains from a place to the end of the last leg.

    A job that is stopped anywhere and started again from a place that it has kept does the same steps on the same
    batches with the same compiled code.

    Args:
      program: the program of the job's cells.
      legs: the legs of their runs.
      hypers: the values of each leg.
      data: the data of the cells.
      start: where to begin.
      pace: the pace of this program.
      watcher: is told what happens.
    """
    step, state, trunk = start.step, start.state, start.trunk
    for number in range(start.leg, len(legs)):
        leg, is_last = legs[number], number == len(legs) - 1
        if step == leg.fork and not is_last and trunk is None:
            trunk = copy_state(state)
        stops = [] if _is_over(watcher, legs, number, step) else [stop for stop in leg.stops if stop > step]
        run_chunks: Any = _run_resident if isinstance(data, DeviceData) else _run_streamed
        reported = step
        for chunk in run_chunks(program, state, hypers[number], data, step, stops, pace):
            step, state = chunk.step, chunk.state
            reported += len(chunk.losses)
            watcher.note_chunk(number, reported, chunk.losses, chunk.seconds)
            is_lost = len(chunk.losses) > 0 and not np.isfinite(chunk.losses[-1]).any()
            if step in stops or is_lost:
                if step == leg.fork and not is_last:
                    trunk = copy_state(state)
                watcher.evaluate(Place(number, step, state, trunk))
                if _is_over(watcher, legs, number, step):
                    break
            watcher.keep(Place(number, step, state, trunk))
        watcher.finish(number)
        if trunk is not None:
            step, state, trunk = leg.fork, trunk, None


def _is_over(watcher: Watcher, legs: Sequence[Leg], number: int, step: int) -> bool:
    """Returns whether nothing more is to be learnt from a leg: from its leaf, and on the trunk from all that follow."""
    leaves = range(number, len(legs)) if step < legs[number].fork else (number,)
    return all(map(watcher.is_over, leaves))


def copy_state(state: TrainState) -> TrainState:
    """Returns a copy that outlives the donated original."""
    return jax.tree.map(jnp.copy, state)


class _Chunk(NamedTuple):
    """What has become of a chunk: the state after `step`, and losses [S, …] of steps that have not been told yet."""

    step: int
    state: TrainState
    losses: np.ndarray
    seconds: float | None


def _run_resident(
    program: Program, state: TrainState, hyper: Hyper, data: DeviceData, step: int, stops: Sequence[int], pace: Pace
) -> Iterator[_Chunk]:
    """Yields after each chunk; every stop ends one."""
    for stop in stops:
        while step < stop:
            began, num_steps = time.monotonic(), pace.chunk(stop - step)
            state, losses = program.run(state, hyper, data, np.int32(num_steps))
            fetched = np.asarray(jax.device_get(losses))[:num_steps]
            step += num_steps
            yield _Chunk(step, state, fetched, pace.note(num_steps, time.monotonic() - began))


def _run_streamed(
    program: Program, state: TrainState, hyper: Hyper, data: StreamedData, step: int, stops: Sequence[int], pace: Pace
) -> Iterator[_Chunk]:
    """Yields after each chunk has been given to the device, whose losses come back later, and at every stop at once.

    While the device works on a chunk, the next ones are read and carried to it.
    """
    chunks, began = data.chunks(stops, step), time.monotonic()
    running: collections.deque[tuple[Any, int]] = collections.deque()
    for stop in stops:
        while step < stop:
            asked = time.monotonic()
            chunk = next(chunks)
            if all(loss.is_ready() for loss in jax.tree.leaves([losses for losses, _ in running])):
                data.waiting_seconds += time.monotonic() - asked
            num_steps = len(chunk["labels"])
            inputs, labels = (
                program.layout.put_batches(_pad_steps(chunk[name], data.chunk_steps)) for name in ("inputs", "labels")
            )
            state, losses = program.run_batches(state, hyper, inputs, labels, data.standard, np.int32(num_steps))
            running.append((losses, num_steps))
            step += num_steps
            most = 0 if step == stop else CHUNKS_RUNNING - 1
            fetched = []
            while len(running) > most:
                losses, count = running.popleft()
                fetched.append(np.asarray(losses)[:count])
            num_fetched = sum(map(len, fetched))
            now = time.monotonic()
            seconds = pace.note(num_fetched, now - began) if fetched else None
            began = now if fetched else began
            yield _Chunk(step, state, np.concatenate(fetched) if fetched else np.zeros(0, np.float32), seconds)


def _pad_steps(array: np.ndarray, num_steps: int) -> np.ndarray:
    """Returns an array [S, …] with as many steps as every chunk has, so that one compilation serves all."""
    if len(array) == num_steps:
        return array
    padded = np.zeros((num_steps, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded


def check_streamed(program: Program, data: DeviceData | StreamedData, size: int) -> None:
    """Checks that a job can learn from data that is streamed, if it is.

    Raises:
      InputError: there is pre-training.
    """
    if program.pretrain is not None and isinstance(data, StreamedData):
        raise InputError(
            f"training.pretraining reads its examples on the device, where data.size={size} of them do not fit; choose "
            "fewer, or leave training.pretraining out"
        )
