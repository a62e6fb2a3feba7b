"""The loop: one compilation for many cells, bitwise repeatable, equal to plain steps, and honest about divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling.cell import (
    AdamWSpec,
    ConstantSchedule,
    CosineSchedule,
    InverseSqrtSchedule,
    LinearSchedule,
    OptimizerSpec,
    ScheduleSpec,
    SGDSpec,
    TrainingSpec,
    WSDSchedule,
)
from scaling.data.batches import batch_indices
from scaling.models import TaskShape, make_shape
from scaling.models.network import build
from scaling.models.specs import MLPSpec
from scaling.optim import horizon_of, make_schedule
from scaling.train import DeviceData, evaluation_steps, get_program, run_steps

TASK = TaskShape(num_features=5, vocab_size=None, num_classes=3)
SHAPE = make_shape(MLPSpec(num_params=200), TASK)


def make_data(size: int = 40, pool: int = 64) -> DeviceData:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(pool, 5)).astype(np.float32)
    order = np.zeros(pool, np.int32)
    order[:size] = generator.permutation(pool)[:size]
    labels = np.argmax(inputs @ generator.normal(size=(5, 3)), axis=1).astype(np.int32)
    return DeviceData(*map(jnp.asarray, (inputs, labels, order, np.zeros(5, np.float32), np.ones(5, np.float32))))


def train(optimizer: OptimizerSpec, *, size=40, seed=0, num_steps=60, batch_size=8, schedule=None):
    training = TrainingSpec(
        optimizer=optimizer, schedule=schedule or CosineSchedule(), batch_size=batch_size, num_steps=num_steps
    )
    *_, (step, variables, finite) = run_steps(get_program(SHAPE, training), training, size, seed, make_data(size))
    return step, variables["params"], finite


def same(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


def test_cells_that_differ_in_values_share_one_compilation():
    spec = AdamWSpec(peak_lr=1e-2)
    program = get_program(SHAPE, TrainingSpec(optimizer=spec, batch_size=8, num_steps=1))
    train(spec)
    compiled = program.run._cache_size()
    for change in ({"peak_lr": 3e-2}, {"weight_decay": 0.3}):
        train(spec.model_copy(update=change))
    train(spec, seed=5, size=13, num_steps=33)
    assert (compiled, program.run._cache_size()) == (1, 1)


def test_the_same_seed_twice_is_bitwise_equal_and_another_is_not():
    one, again, other = (train(AdamWSpec(peak_lr=1e-2), seed=seed)[1] for seed in (0, 0, 1))
    assert same(one, again)
    assert not same(one, other)


def test_stopping_to_evaluate_changes_nothing():
    spec = AdamWSpec(peak_lr=1e-2)
    often, once = (TrainingSpec(optimizer=spec, batch_size=8, num_steps=64, num_evaluations=count) for count in (7, 1))
    results = []
    for training in (often, once):
        *_, last = run_steps(get_program(SHAPE, training), training, 40, 0, make_data())
        results.append(last[1])
    assert same(*results)


def plain_adamw(training: TrainingSpec, size: int, seed: int):
    """Trains with optax's own AdamW and schedule in a plain Python loop, as a reader would write it."""
    data, model = make_data(size), build(SHAPE)
    spec = training.optimizer
    assert isinstance(spec, AdamWSpec)
    schedule, horizon = make_schedule(training.schedule), horizon_of(training.schedule, training.num_steps)
    optimizer = optax.adamw(
        lambda step: spec.peak_lr * schedule(step + 0.5, horizon),
        b1=spec.b1,
        b2=spec.b2,
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    )
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


@pytest.mark.parametrize(("size", "batch_size"), [(40, 8), (5, 8), (13, 8)])
def test_a_run_equals_optax_adamw_in_a_plain_loop(size, batch_size):
    spec = AdamWSpec(peak_lr=1e-2, weight_decay=0.5)
    training = TrainingSpec(optimizer=spec, batch_size=batch_size, num_steps=25)
    _, params, _ = train(spec, size=size, batch_size=batch_size, num_steps=25)
    for mine, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(plain_adamw(training, size, 0)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)


def test_examples_outside_the_subset_have_no_influence():
    data = make_data(size=10)
    spoiled = data.inputs.at[np.setdiff1d(np.arange(64), np.asarray(data.order[:10]))].set(1e6)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=8, num_steps=20)
    program = get_program(SHAPE, training)
    results = []
    for inputs in (data.inputs, spoiled):
        *_, last = run_steps(program, training, 10, 0, data._replace(inputs=inputs))
        results.append(last[1])
    assert same(*results)


def test_a_run_learns():
    data = make_data(size=64)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=2e-2), batch_size=16, num_steps=400)
    program = get_program(SHAPE, training)
    *_, (_, variables, _) = run_steps(program, training, 64, 0, data)
    is_real = jnp.ones(len(data.labels))
    _, correct, predictions = program.evaluate(variables, data.inputs, data.labels, is_real, data.shift, data.scale)
    assert int(predictions) == 64
    assert int(correct) >= 62


def test_divergence_stops_the_run_at_its_step():
    step, _, finite = train(SGDSpec(peak_lr=1e30, momentum=0.0), schedule=ConstantSchedule(), num_steps=1000)
    assert not finite
    assert 1 < step < 10


def test_weight_decay_shrinks_matrices_and_leaves_biases():
    base, decayed = (train(SGDSpec(peak_lr=1e-3, weight_decay=decay), num_steps=50)[1] for decay in (0.0, 20.0))
    kernel, bias = base["head"]["kernel"], base["head"]["bias"]
    assert np.linalg.norm(decayed["head"]["kernel"]) < 0.7 * np.linalg.norm(kernel)
    np.testing.assert_allclose(decayed["head"]["bias"], bias, atol=0.02)


def factors(spec: ScheduleSpec, num_steps: int, times: list[float]) -> list[float]:
    schedule, horizon = make_schedule(spec), horizon_of(spec, num_steps)
    return [float(schedule(jnp.float32(time), horizon)) for time in times]


def test_schedules_rise_to_one_and_end_where_they_say():
    times = [0.0, 5.0, 10.0, 55.0, 100.0]
    cosine = CosineSchedule(warmup_fraction=0.1, final_fraction=0.2)
    assert factors(cosine, 100, times) == pytest.approx([0, 0.5, 1.0, 0.6, 0.2])
    linear = LinearSchedule(warmup_fraction=0.1, final_fraction=0.2)
    assert factors(linear, 100, [0.0, 10.0, 55.0, 77.5, 100.0]) == pytest.approx([0, 1.0, 0.6, 0.4, 0.2])
    assert factors(ConstantSchedule(), 100, [0.0, 100.0]) == [1.0, 1.0]
    assert factors(InverseSqrtSchedule(warmup_steps=10), 100, [5.0, 10.0, 40.0]) == pytest.approx([0.5, 1.0, 0.5])


def test_warmup_stable_decay_is_flat_until_its_cooldown_for_every_length():
    spec = WSDSchedule(warmup_steps=10, decay_fraction=0.2, decay="linear", final_fraction=0.1)
    assert factors(spec, 100, [5.0, 10.0, 80.0, 90.0, 100.0]) == pytest.approx([0.5, 1.0, 1.0, 0.55, 0.1])
    assert factors(spec, 1000, [5.0, 10.0, 80.0, 800.0, 900.0]) == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.55])
    root = WSDSchedule(decay="one_minus_sqrt")
    assert factors(root, 100, [80.0, 85.0, 100.0]) == pytest.approx([1.0, 0.5, 0.0])


def test_a_decay_that_begins_before_warm_up_ends_is_refused():
    with pytest.raises(ValueError, match=r"warmup_steps=90 go on after step 80"):
        TrainingSpec(optimizer=AdamWSpec(peak_lr=1.0), schedule=WSDSchedule(warmup_steps=90), num_steps=100)


def test_evaluations_are_log_spaced_and_end_at_the_end():
    assert evaluation_steps(4000, 5) == [250, 500, 1000, 2000, 4000]
    assert evaluation_steps(3, 5) == [1, 2, 3]
    assert evaluation_steps(1, 1) == [1]
