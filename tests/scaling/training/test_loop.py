"""The loop: one compilation for many cells, bitwise repeatable, equal to plain steps, and honest about divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling.data.feeding.placement import DeviceData, Standard, StreamedData
from scaling.data.order.batches import batch_indices
from scaling.learning.step import Hyper, TrainState, horizon_of
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.models import MLPSpec
from scaling.specs.schedules import (
    ConstantSchedule,
    WSDSchedule,
)
from scaling.specs.task import TaskShape
from scaling.specs.training import AdamWSpec, OptimizerSpec, SGDSpec, TrainingSpec
from scaling.training.loop import Leg, Pace, Place, Watcher, copy_state, evaluation_steps, plan_legs, run_job
from scaling.training.program import get_program

TASK = TaskShape(num_features=5, vocab_size=None, num_classes=3)
SHAPE = make_shape(MLPSpec(num_params=200), TASK)
ADAMW = AdamWSpec(peak_lr=1e-2)
PLAIN = Standard(np.zeros(5, np.float32), np.ones(5, np.float32), np.float32(0.0), np.float32(1.0))


def make_data(size: int = 40, pool: int = 64) -> DeviceData:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(pool, 5)).astype(np.float32)
    order = np.zeros(pool, np.int32)
    order[:size] = generator.permutation(pool)[:size]
    labels = np.argmax(inputs @ generator.normal(size=(5, 3)), axis=1).astype(np.int32)
    return DeviceData(*map(jnp.asarray, (inputs, labels, order)), Standard(*map(jnp.asarray, PLAIN)))


def make_spec(optimizer: OptimizerSpec = ADAMW, **changes) -> TrainingSpec:
    return TrainingSpec(**{"optimizer": optimizer, "batch_size": 8, "num_steps": 60, **changes})


def make_hyper(training: TrainingSpec, size: int, seed: int) -> Hyper:
    rates = jnp.float32(training.optimizer.peak_lr), jnp.float32(training.optimizer.weight_decay)
    return Hyper(*rates, horizon_of(training.schedule, training.num_steps), jnp.uint32(size), jnp.uint32(seed))


class Notes(Watcher):
    """Keeps what the loop tells: places of stops by (leg, step), copies of kept ones, and losses by leg."""

    def __init__(self) -> None:
        self.stops: dict[tuple[int, int], TrainState] = {}
        self.kept: list[Place] = []
        self.losses: list[list[float]] = []
        self.chunks: list[int] = []

    def evaluate(self, place: Place) -> None:
        self.stops[place.leg, place.step] = copy_state(place.state)

    def is_over(self, leg: int) -> bool:
        return any(number == leg and int(state.diverged_at) >= 0 for (number, _), state in self.stops.items())

    def note_chunk(self, leg: int, step: int, losses: np.ndarray, seconds: float | None) -> None:
        del step, seconds
        self.losses += [[] for _ in range(leg + 1 - len(self.losses))]
        self.losses[leg] += losses.tolist()
        self.chunks.append(len(losses))

    def keep(self, place: Place) -> None:
        trunk = None if place.trunk is None else copy_state(place.trunk)
        self.kept.append(place._replace(state=copy_state(place.state), trunk=trunk))

    @property
    def last(self) -> TrainState:
        """The state at the last stop."""
        return list(self.stops.values())[-1]


def train(*trainings: TrainingSpec, size=40, seed=0, execution: Execution = DEFAULT, data=None, start=None) -> Notes:
    """Returns what the loop tells of runs of these lengths, shortest first."""
    program, notes = get_program(SHAPE, trainings[0], execution=execution), Notes()
    legs = plan_legs(trainings)
    hypers = [make_hyper(training, size, seed) for training in trainings]
    start = start or Place(0, 0, program.init(hypers[0].seed), None)
    data = make_data(size) if data is None else data
    run_job(program, legs, hypers, data, start, Pace(execution.chunk_steps), notes)
    return notes


def same(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


def test_cells_that_differ_in_values_share_one_compilation():
    program = get_program(SHAPE, make_spec(num_steps=1))
    train(make_spec())
    compiled = program.run._cache_size()
    train(make_spec(AdamWSpec(peak_lr=3e-2)))
    train(make_spec(AdamWSpec(peak_lr=1e-2, weight_decay=0.3), num_evaluations=2))
    train(make_spec(num_steps=33, evaluate_every=5, target_loss=0.1), seed=5, size=13)
    assert (compiled, program.run._cache_size()) == (1, 1)


def test_the_same_seed_twice_is_bitwise_equal_and_another_is_not():
    one, again, other = (train(make_spec(), seed=seed) for seed in (0, 0, 1))
    assert same(one.last, again.last)
    assert one.losses == again.losses
    assert not same(one.last.variables, other.last.variables)


def test_stopping_to_evaluate_changes_nothing():
    changes = ({"num_evaluations": 1}, {"num_evaluations": 7}, {"evaluate_every": 11})
    once, *often = (train(make_spec(**change)) for change in changes)
    for other in often:
        assert len(other.stops) > 3
        assert same(once.last, other.last)
        assert once.losses == other.losses


@pytest.mark.parametrize("chunk_steps", [1, 7])
def test_the_length_of_chunks_changes_nothing(chunk_steps):
    by_time, fixed = train(make_spec()), train(make_spec(), execution=Execution(chunk_steps=chunk_steps))
    assert max(fixed.chunks) == chunk_steps
    assert by_time.chunks != fixed.chunks
    assert same(by_time.last, fixed.last)
    assert by_time.losses == fixed.losses


def test_step_by_step_is_the_same_run():
    scanned, stepped = train(make_spec()), train(make_spec(), execution=Execution(loop="step"))
    # Compiled apart, so that XLA may order sums otherwise.
    np.testing.assert_allclose(stepped.losses, scanned.losses, rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        stepped.last.variables,
        scanned.last.variables,
    )


def test_a_run_goes_on_from_any_chunk_as_if_it_had_not_stopped():
    whole = train(make_spec(), execution=Execution(chunk_steps=7))
    for place in whole.kept[:-1:3]:
        rest = train(make_spec(), start=place)
        assert same(rest.last, whole.last)
        assert whole.losses[0][place.step :] == rest.losses[0]


def test_losses_are_of_the_steps_before_their_update():
    notes, model, data = train(make_spec()), build(SHAPE), make_data()
    chosen = np.asarray(data.order)[batch_indices(0, 8, 40, 0)]
    outputs, _ = model.apply(model.init(jax.random.key(0)), data.inputs[chosen], train=True, key=None)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, data.labels[chosen]).mean()
    assert notes.losses[0][0] == pytest.approx(float(loss), rel=1e-5)
    assert len(notes.losses[0]) == 60


def plain_adamw(training: TrainingSpec, size: int, seed: int):
    """Trains with optax's own AdamW and schedule in a plain Python loop, as a reader would write it."""
    data, model = make_data(size), build(SHAPE)
    spec = training.optimizer
    assert isinstance(spec, AdamWSpec)
    schedule, horizon = training.schedule.factor, horizon_of(training.schedule, training.num_steps)
    optimizer = optax.adamw(
        lambda step: spec.peak_lr * schedule(step + 0.5, horizon),
        b1=spec.b1,
        b2=spec.b2,
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    )
    if training.clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(training.clip_norm), optimizer)
    params = model.init(jax.random.key(seed))["params"]
    state = optimizer.init(params)
    for step in range(training.num_steps):
        chosen = np.asarray(data.order)[batch_indices(step, training.batch_size, size, seed)]

        def loss(params, chosen=chosen):
            outputs, _ = model.apply({"params": params, "state": {}}, data.inputs[chosen], train=True, key=None)
            return optax.softmax_cross_entropy_with_integer_labels(outputs.logits, data.labels[chosen]).mean()

        update, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, update)
    return params


@pytest.mark.parametrize(
    ("size", "changes"),
    [*(pytest.param(size, {}, marks=pytest.mark.slow) for size in (40, 5)), (13, {"clip_norm": 0.3})],
    ids=["plain", "batches larger than m", "clipped"],
)
def test_a_run_equals_optax_adamw_in_a_plain_loop(size, changes):
    training = make_spec(AdamWSpec(peak_lr=1e-2, weight_decay=0.5), num_steps=25, **changes)
    params = train(training, size=size).last.variables["params"]
    for mine, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(plain_adamw(training, size, 0)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)


def test_examples_outside_the_subset_have_no_influence():
    data = make_data(size=10)
    spoiled = data.inputs.at[np.setdiff1d(np.arange(64), np.asarray(data.order[:10]))].set(1e6)
    one, other = (train(make_spec(), size=10, data=data._replace(inputs=x)) for x in (data.inputs, spoiled))
    assert same(one.last, other.last)


def test_a_run_learns():
    data = make_data(size=64)
    training = make_spec(AdamWSpec(peak_lr=2e-2), batch_size=16, num_steps=400)
    variables = train(training, size=64).last.variables
    evaluate = get_program(SHAPE, training).evaluate
    (_, right, predictions), _ = evaluate(variables, data.standard, data.inputs, data.labels, jnp.ones(64))
    assert int(predictions) == 64
    assert int(right) >= 62


def test_divergence_stops_the_run_long_before_its_first_evaluation():
    hopeless = make_spec(
        SGDSpec(peak_lr=1e30, momentum=0.0), schedule=ConstantSchedule(), num_steps=3000, num_evaluations=1
    )
    notes = train(hopeless)
    assert 1 < int(notes.last.diverged_at) < 10
    assert len(notes.losses[0]) < 1000


def test_a_run_that_does_not_diverge_says_so():
    assert int(train(make_spec()).last.diverged_at) == -1


def test_weight_decay_shrinks_matrices_and_leaves_biases():
    base, decayed = (
        train(make_spec(SGDSpec(peak_lr=1e-3, weight_decay=decay))).last.variables["params"]["head"]
        for decay in (0.0, 20.0)
    )
    assert np.linalg.norm(decayed["kernel"]) < 0.7 * np.linalg.norm(base["kernel"])
    np.testing.assert_allclose(decayed["bias"], base["bias"], atol=0.02)


# --- streams --------------------------------------------------------------------------------------------------------


def make_stream(size: int = 40, most: int = 4) -> StreamedData:
    """Returns the same batches as `make_data`, as a stream gives them, and what it was asked for."""
    data = make_data(size)
    inputs, labels, order = map(np.asarray, data[:3])

    def chunks(stops, start):
        for stop in stops:
            while start < stop:
                steps = range(start, min(start + most, stop))
                chosen = np.stack([order[batch_indices(step, 8, size, 0)] for step in steps])
                yield {"inputs": inputs[chosen], "labels": labels[chosen]}
                start = steps[-1] + 1

    return StreamedData(chunks, most, data.standard)


@pytest.mark.parametrize("loop", ["scan", "step"])
def test_a_stream_gives_the_run_of_resident_data_with_every_loss_in_order(loop):
    execution = Execution(loop=loop)
    resident, streamed = train(make_spec(), execution=execution), train(make_spec(), data=make_stream())
    assert list(streamed.stops) == list(resident.stops)
    assert len(streamed.losses[0]) == 60
    np.testing.assert_allclose(streamed.losses, resident.losses, rtol=1e-4)
    if loop == "step":
        stepped = train(make_spec(), execution=execution, data=make_stream())
        np.testing.assert_allclose(stepped.losses, resident.losses, rtol=1e-4)


def test_a_stream_compiles_once_for_chunks_of_every_length_and_begins_at_any_step():
    whole = train(make_spec(), data=make_stream())
    for place in whole.kept[:-1:4]:
        rest = train(make_spec(), data=make_stream(), start=place)
        assert same(rest.last, whole.last)
        assert whole.losses[0][place.step :] == rest.losses[0]
    assert get_program(SHAPE, make_spec()).run_batches._cache_size() == 1


# --- branches -------------------------------------------------------------------------------------------------------


def test_legs_share_the_trunk_and_stop_where_any_leaf_is_evaluated():
    schedule = WSDSchedule(decay_fraction=0.2)
    trainings = [make_spec(num_steps=count, schedule=schedule, num_evaluations=2) for count in (10, 20, 40)]
    assert [evaluation_steps(training) for training in trainings] == [[5, 8, 10], [10, 16, 20], [20, 32, 40]]
    assert plan_legs(trainings) == [Leg(10, 8, (5, 8, 10)), Leg(20, 16, (10, 16, 20)), Leg(40, 32, (20, 32, 40))]
    assert plan_legs(trainings[1:]) == [Leg(20, 16, (10, 16, 20)), Leg(40, 32, (20, 32, 40))]


@pytest.mark.parametrize("lengths", [(10, 20, 40), (7, 8), (3, 4)], ids=str)
@pytest.mark.parametrize("decay_fraction", [0.2, 1.0], ids=["decay", "decay alone"])
def test_leaves_are_bitwise_the_runs_that_they_would_be_alone(lengths, decay_fraction):
    schedule = WSDSchedule(decay_fraction=decay_fraction)
    trainings = [make_spec(num_steps=count, schedule=schedule) for count in lengths]
    tree = train(*trainings)
    done = 0
    for number, training in enumerate(trainings):
        alone = train(training)
        assert same(tree.stops[number, training.num_steps], alone.last)
        assert tree.losses[number] == alone.losses[0][done:]
        done = schedule.decay_start(training.num_steps)


def test_a_tree_goes_on_from_any_chunk_as_if_it_had_not_stopped():
    trainings = [make_spec(num_steps=count, schedule=WSDSchedule()) for count in (10, 20)]
    whole = train(*trainings, execution=Execution(chunk_steps=3))
    assert any(place.trunk is not None for place in whole.kept)
    for place in whole.kept:
        rest = train(*trainings, start=place)
        for key, state in rest.stops.items():
            assert same(state, whole.stops[key])
        assert (1, 20) in rest.stops or place == whole.kept[-1]


# --- pace -----------------------------------------------------------------------------------------------------------


def test_pace_finds_how_many_steps_take_a_second_and_leaves_compilation_out():
    pace = Pace()
    assert pace.chunk(100) == 1
    assert pace.note(1, 30.0) is None  # compiled
    assert pace.chunk(100) == 8
    assert pace.note(8, 0.08) == 0.08
    assert pace.chunk(1000) == 64  # at most eight times as many as before
    pace.note(64, 0.64)
    assert pace.chunk(1000) == 100
    pace.note(100, 200.0)
    assert pace.chunk(1000) == 1
    assert pace.chunk(0) == 0


def test_a_fixed_pace_stays():
    pace = Pace(5)
    for _ in range(3):
        assert pace.chunk(100) == 5
        pace.note(5, 1e-3)
    assert pace.chunk(3) == 3


# --- schedules ------------------------------------------------------------------------------------------------------


def spaced(**changes) -> list[int]:
    return evaluation_steps(make_spec(**changes))


def test_evaluations_are_log_spaced_or_regular_and_end_at_the_end():
    assert spaced(num_steps=4000, num_evaluations=5) == [250, 500, 1000, 2000, 4000]
    assert spaced(num_steps=3, num_evaluations=5) == [1, 2, 3]
    assert spaced(num_steps=1, num_evaluations=1) == [1]
    assert spaced(num_steps=100, evaluate_every=30) == [30, 60, 90, 100]
    assert spaced(num_steps=90, evaluate_every=30) == [30, 60, 90]
    assert spaced(num_steps=20, evaluate_every=30) == [20]


def test_a_decay_is_evaluated_before_it_begins():
    assert spaced(num_steps=100, num_evaluations=2, schedule=WSDSchedule(decay_fraction=0.1)) == [50, 90, 100]
    assert spaced(num_steps=100, num_evaluations=1, schedule=WSDSchedule(decay_fraction=1.0)) == [100]
