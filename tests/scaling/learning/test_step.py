"""One step: parts equal the whole, noise scales are unbiased, and limits, averages and precisions do what they say."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling.checks.coordinates import synthetic_examples
from scaling.learning.objectives import Batch, make_batch, training_loss
from scaling.learning.step import Hyper, Learner, TrainState, horizon_of, make_learner, noise_scale_terms, split_batch
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.specs.base import InputError
from scaling.specs.execution import DEFAULT, Execution
from scaling.specs.models import ConvNetSpec, MLPSpec, TransformerSpec
from scaling.specs.schedules import ConstantSchedule
from scaling.specs.task import TaskShape, image_task, token_task
from scaling.specs.training import AdamWSpec, SGDSpec, TrainingSpec

NUMBERS = make_shape(MLPSpec(num_params=200), TaskShape(num_features=5, vocab_size=None, num_classes=3))
NEXT = make_shape(TransformerSpec(width=8, depth=1), token_task(16, 6))
MASKED = make_shape(TransformerSpec(width=8, depth=1, form="encoder"), token_task(16, 6, "masked"))
SHAPES = {"mlp": NUMBERS, "next token": NEXT, "masked": MASKED}
GRADIENT = SGDSpec(peak_lr=1.0, momentum=0.0)  # a step subtracts the gradient itself


def make_spec(optimizer=GRADIENT, **changes) -> TrainingSpec:
    fields = {"schedule": ConstantSchedule(), "batch_size": 16, "num_steps": 100}
    return TrainingSpec(**{"optimizer": optimizer, **fields, **changes})


def make_hyper(training: TrainingSpec) -> Hyper:
    rates = jnp.float32(training.optimizer.peak_lr), jnp.float32(training.optimizer.weight_decay)
    return Hyper(*rates, horizon_of(training.schedule, training.num_steps), jnp.uint32(0), jnp.uint32(0))


def draw(shape, size: int = 16, seed: int = 0) -> Batch:
    return make_batch(shape.task, *synthetic_examples(shape.task, size), jax.random.key(seed))


def many(shape, num_steps: int, size: int = 16) -> Batch:
    """Returns batches [S, …] of examples in a fresh order each."""
    pool, generator = draw(shape, 256), np.random.default_rng(0)
    chosen = generator.integers(0, 256, (num_steps, size))
    return jax.tree.map(lambda x: x[chosen], pool)


def run(shape, training: TrainingSpec, batches: Batch, execution: Execution = DEFAULT):
    """Returns the states [S, …] after each of the steps, the losses [S], and the state before the first."""
    learner = make_learner(shape, training, execution)
    hyper = make_hyper(training)

    def step(state, batch):
        later, loss = learner.step(state, hyper, batch)
        return later, (later, loss)

    def steps():
        start = learner.init(jnp.uint32(0))
        return (start, *jax.lax.scan(step, start, batches)[1])

    start, states, losses = jax.jit(steps)()
    return states, losses, start


def gradient_of(shape, training: TrainingSpec, batch: Batch, execution: Execution = DEFAULT):
    """Returns what one step of plain gradient descent subtracts, its loss and its state."""
    learner, hyper = make_learner(shape, training, execution), make_hyper(training)

    def step(batch):
        start = learner.init(jnp.uint32(0))
        later, loss = learner.step(start, hyper, batch)
        return jax.tree.map(jnp.subtract, start.variables, later.variables)["params"], loss, later

    return jax.jit(step)(batch)


@functools.cache
def whole_gradient(name: str):
    """Returns what `gradient_of` does of a whole batch of one of the shapes."""
    return gradient_of(SHAPES[name], make_spec(), draw(SHAPES[name]))


@functools.cache
def start_of(shape):
    """Returns a network's initial parameters."""
    init = jax.jit(make_learner(shape, make_spec()).init)
    return init(jnp.uint32(0)).variables["params"]


def assert_close(one, other, rtol: float, atol: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


# --- parts of batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parts", "micro_batches"),
    [
        ("mlp", None, 2),
        ("mlp", None, 8),
        ("mlp", 4, 1),
        ("mlp", 4, 8),
        pytest.param("next token", None, 2, marks=pytest.mark.slow),
        pytest.param("masked", 4, 8, marks=pytest.mark.slow),
    ],
)
def test_parts_of_a_batch_add_up_to_the_whole(name, parts, micro_batches):
    shape, batch = SHAPES[name], draw(SHAPES[name])
    if batch.weights is not None:  # parts of unequal weight
        assert len(set(split_batch(batch, 8).weights.sum(axis=(1, 2)).tolist())) > 1
    whole, loss, _ = whole_gradient(name)
    execution = Execution(micro_batches=micro_batches)
    summed, summed_loss, _ = gradient_of(shape, make_spec(noise_scale_parts=parts), batch, execution)
    assert float(summed_loss) == pytest.approx(float(loss), rel=1e-5)
    assert_close(summed, whole, rtol=1e-3, atol=1e-5)


def test_a_part_holds_every_kth_example():
    batch = Batch({"x": jnp.arange(6)}, jnp.arange(6) * 10, None)
    parts = split_batch(batch, 3)
    assert parts.inputs["x"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert parts.targets.tolist() == [[0, 30], [10, 40], [20, 50]]
    assert parts.weights is None


IMAGES = make_shape(ConvNetSpec(width=4, normalization="batch"), image_task(8, 10, 1))
EXPERTS = make_shape(TransformerSpec(width=8, depth=1, num_experts=2, top_k=1), token_task(16, 6))
NUMBER = make_shape(MLPSpec(num_params=200), TaskShape(5, None, 1, None, "regress"))


@pytest.mark.parametrize(
    ("shape", "changes", "micro_batches", "message"),
    [
        (IMAGES, {}, 2, r"execution\.micro_batches=2: batch norm takes its statistics over whole batches"),
        (IMAGES, {"noise_scale_parts": 2}, 1, r"training\.noise_scale_parts=2: batch norm"),
        (EXPERTS, {}, 2, r"execution\.micro_batches=2: routed experts"),
        (EXPERTS, {"noise_scale_parts": 2}, 1, r"training\.noise_scale_parts=2: routed experts"),
        (NUMBERS, {}, 3, r"execution\.micro_batches=3 does not divide training\.batch_size=16"),
        (NUMBERS, {"noise_scale_parts": 4}, 2, r"execution\.micro_batches=2 are no multiple"),
        (NUMBER, {"z_loss": 0.1}, 1, r"training\.z_loss=0\.1: a predicted number has no log Z"),
    ],
)
def test_what_cannot_be_divided_is_refused(shape, changes, micro_batches, message):
    with pytest.raises(InputError, match=message):
        make_learner(shape, make_spec(**changes), Execution(micro_batches=micro_batches))


def test_whole_batches_of_batch_norm_and_experts_are_not_refused():
    for shape in (IMAGES, EXPERTS):
        assert isinstance(make_learner(shape, make_spec()), Learner)


# --- the noise scale ------------------------------------------------------------------------------------------------


def loss_of(shape, params, batch: Batch) -> jax.Array:
    return training_loss(
        build(shape).apply({"params": params, "state": {}}, batch.inputs, train=True, key=None)[0], batch
    )


def square(tree) -> float:
    return sum(float(jnp.sum(x.astype(jnp.float32) ** 2)) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "execution",
    [
        pytest.param(DEFAULT, id="parts", marks=pytest.mark.slow),
        pytest.param(Execution(micro_batches=8), id="groups of parts"),
    ],
)
def test_noise_and_signal_are_mccandlishs_estimates(execution):
    batch, big, small = draw(NUMBERS), 16, 4
    params = start_of(NUMBERS)
    whole = jax.grad(loss_of, argnums=1)(NUMBERS, params, batch)
    parts = [
        jax.grad(loss_of, argnums=1)(NUMBERS, params, jax.tree.map(lambda x, k=k: x[k::4], batch)) for k in range(4)
    ]
    square_small = np.mean([square(part) for part in parts])
    trace = (square_small - square(whole)) / (1 / small - 1 / big)  # appendix A.1, equation A.3
    signal = (big * square(whole) - small * square_small) / (big - small)  # equation A.2
    monitor = gradient_of(NUMBERS, make_spec(noise_scale_parts=4), batch, execution)[2].monitor
    assert float(monitor.noise) == pytest.approx(trace / big, rel=1e-4)
    assert float(monitor.signal) == pytest.approx(signal, rel=1e-4)


@pytest.mark.slow
def test_the_mean_of_the_estimates_is_the_truth():
    """Over batches drawn from a finite population, whose gradients' mean and covariance are known exactly."""
    pool = draw(NUMBERS, 64)
    training = make_spec(noise_scale_parts=4)
    learner, hyper = make_learner(NUMBERS, training), make_hyper(training)
    start = jax.jit(learner.init)(jnp.uint32(0))
    each = jax.vmap(
        lambda x, y: jax.grad(loss_of, argnums=1)(NUMBERS, start.variables["params"], Batch(x[None], y[None], None))
    )(pool.inputs, pool.targets)
    flat = np.concatenate([np.asarray(g).reshape(64, -1) for g in jax.tree.leaves(each)], axis=1).astype(np.float64)
    signal, trace = float(np.square(flat.mean(axis=0)).sum()), float(flat.var(axis=0).sum())
    chosen = jax.random.randint(jax.random.key(5), (4000, 16), 0, 64)

    def estimate(rows):
        batch = jax.tree.map(lambda x: x[rows], pool)
        monitor = learner.step(start, hyper, batch)[0].monitor
        return monitor.noise, monitor.signal

    found = jax.jit(lambda: jax.lax.map(estimate, chosen))()
    for values, truth in zip(map(np.asarray, found), (trace / 16, signal), strict=True):
        error = values.std() / np.sqrt(len(values))
        assert error < 0.03 * truth  # else the comparison would say little
        assert values.mean() == pytest.approx(truth, abs=4 * error)


def test_noise_scale_terms_of_parts_that_agree_are_all_signal():
    noise, signal = noise_scale_terms(jnp.float32(9.0), jnp.float32(9.0), 4)
    assert (float(noise), float(signal)) == (0.0, 9.0)


@pytest.mark.slow
def test_estimates_are_averaged_over_steps():
    batches, training = many(NUMBERS, 3), make_spec(SGDSpec(peak_lr=1e-30), noise_scale_parts=2)
    states, _, _ = run(NUMBERS, training, batches)
    alone = [run(NUMBERS, training, jax.tree.map(lambda x, k=k: x[k : k + 1], batches))[0] for k in range(3)]
    for name in ("noise", "signal"):
        each = [float(getattr(state.monitor, name)[0]) for state in alone]
        running = np.cumsum(each) / np.arange(1, 4)
        assert getattr(states.monitor, name).tolist() == pytest.approx(list(running), rel=1e-3)


# --- what changes gradients and losses ------------------------------------------------------------------------------


def test_gradients_are_scaled_down_to_the_limit_and_never_up():
    batch, free = draw(NUMBERS), whole_gradient("mlp")[0]
    norm = float(optax.tree.norm(free))
    clipped = gradient_of(NUMBERS, make_spec(clip_norm=norm / 4), batch)[0]
    assert float(optax.tree.norm(clipped)) == pytest.approx(norm / 4, rel=1e-4)
    assert_close(clipped, jax.tree.map(lambda g: g / 4, free), rtol=1e-3, atol=1e-6)
    assert_close(gradient_of(NUMBERS, make_spec(clip_norm=norm * 4), batch)[0], free, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", pytest.param("masked", marks=pytest.mark.slow)])
def test_z_loss_adds_the_gradient_of_the_mean_square_of_log_z(name):
    shape, batch = SHAPES[name], draw(SHAPES[name])
    params = start_of(shape)

    def by_hand(params):
        logits = build(shape).apply({"params": params, "state": {}}, batch.inputs, train=True, key=None)[0].logits
        squares = jnp.log(jnp.exp(logits).sum(axis=-1)) ** 2
        weights = jnp.ones_like(squares) if batch.weights is None else batch.weights
        return 0.5 * (squares * weights).sum() / weights.sum()

    both = jax.jit(jax.value_and_grad(by_hand))
    added, expected = both(params)
    (plain, loss, _), (with_z, z_loss, _) = whole_gradient(name), gradient_of(shape, make_spec(z_loss=0.5), batch)
    assert float(z_loss - loss) == pytest.approx(float(added), rel=1e-4)
    assert_close(jax.tree.map(jnp.subtract, with_z, plain), expected, rtol=1e-3, atol=5e-6)
    assert square(expected) > 1e-3


def test_the_average_of_parameters_is_the_one_computed_by_hand():
    states, _, start = run(NUMBERS, make_spec(SGDSpec(peak_lr=0.1), ema_decay=0.4), many(NUMBERS, 12))
    average = start.variables["params"]
    for step in range(12):
        kept = min(0.4, (1 + step) / (10 + step))  # 0.1 at first, 0.4 from step 5 on
        after = jax.tree.map(lambda x, step=step: x[step], states.variables["params"])
        average = jax.tree.map(lambda mean, x, kept=kept: kept * mean + (1 - kept) * x, average, after)
        assert_close(jax.tree.map(lambda x, step=step: x[step], states.average), average, rtol=1e-4, atol=1e-6)
    assert not np.allclose(states.average["head"]["kernel"][-1], states.variables["params"]["head"]["kernel"][-1])


def test_there_is_no_average_unless_asked_for():
    assert make_learner(NUMBERS, make_spec()).init(jnp.uint32(0)).average == {}


# --- precision ------------------------------------------------------------------------------------------------------


def dtypes(tree) -> set[str]:
    return {str(x.dtype) for x in jax.tree.leaves(tree)}


def test_moments_are_kept_in_bfloat16_and_the_run_is_nearly_the_same():
    exact, short = (
        run(NUMBERS, make_spec(AdamWSpec(peak_lr=1e-2), moments=moments), many(NUMBERS, 60))
        for moments in ("float32", "bfloat16")
    )
    assert dtypes(exact[0].optimizer) == {"float32", "int32"}
    assert dtypes(short[0].optimizer) == {"bfloat16", "int32"}
    assert dtypes(short[0].variables) == {"float32"}
    assert float(short[1][-10:].mean()) < 0.7 * float(short[1][0])
    assert float(short[1][-10:].mean()) == pytest.approx(float(exact[1][-10:].mean()), rel=0.05)


@pytest.mark.parametrize("name", ["mlp", pytest.param("next token", marks=pytest.mark.slow)])
def test_bfloat16_computes_in_half_the_bits_and_keeps_parameters_in_float32(name):
    shape, batches = SHAPES[name], many(SHAPES[name], 10)
    exact, short = (
        run(shape, make_spec(AdamWSpec(peak_lr=1e-2), precision=precision, ema_decay=0.5), batches)
        for precision in ("float32", "bfloat16")
    )
    kept = short[0].variables, short[0].average, short[0].optimizer, short[1]
    assert dtypes(kept) == {"float32", "int32"}
    assert (short[1] != exact[1]).all()
    np.testing.assert_allclose(short[1], exact[1], rtol=0.05)


# --- the monitor ----------------------------------------------------------------------------------------------------


@functools.cache
def watch(spike_at: int | None, num_steps: int = 160) -> TrainState:
    """Returns the states of a run that goes nowhere, with one batch that is far from what it has learnt."""
    batches = many(NUMBERS, num_steps)
    if spike_at is not None:
        batches = batches._replace(inputs=batches.inputs.at[spike_at].multiply(100.0))
    states, losses, _ = run(NUMBERS, make_spec(SGDSpec(peak_lr=1e-30)), batches)
    assert spike_at is None or float(losses[spike_at]) > 10 * float(losses[spike_at - 1])
    return states


def test_a_calm_run_has_no_spikes():
    states = watch(None)
    assert states.monitor.spikes.tolist() == [0] * 160
    assert 0.0 < float(states.monitor.deviation[-1]) < 0.5 * float(states.monitor.level[-1])


def test_a_spike_is_counted_once_and_does_not_raise_the_bar_beyond_itself():
    calm, states = watch(None), watch(130)
    assert states.monitor.spikes.tolist() == [0] * 130 + [1] * 30
    assert float(states.monitor.level[-1]) == pytest.approx(float(calm.monitor.level[-1]), rel=0.1)


def test_spikes_are_not_counted_before_the_means_are_settled():
    assert watch(50).monitor.spikes[-1] == 0


def test_the_first_loss_that_is_not_finite_is_remembered():
    batches = many(NUMBERS, 6)
    states, losses, _ = run(NUMBERS, make_spec(), batches._replace(inputs=batches.inputs.at[2].set(np.nan)))
    assert states.diverged_at.tolist() == [-1, -1, 3, 3, 3, 3]
    assert np.isfinite(losses).tolist() == [True, True, False, False, False, False]


def test_steps_are_counted_and_dropout_differs_between_them():
    shape = make_shape(MLPSpec(num_params=200, dropout=0.5), NUMBERS.task)
    same = jax.tree.map(lambda x: jnp.stack([x] * 3), draw(shape))
    states, losses, _ = run(shape, make_spec(SGDSpec(peak_lr=1e-30)), same)
    assert states.step.tolist() == [1, 2, 3]
    assert all(one != other for one, other in itertools.combinations(losses.tolist(), 2))
