"""Optimisers: each equals optax's own, Muon keeps to the hidden matrices, and factors scale what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling.learning.optim import apply_update, make_direction
from scaling.specs.training import AdamSpec, AdamWSpec, LionSpec, MuonSpec, OptimizerSpec, RMSPropSpec, SGDSpec

LR, DECAY = 0.01, 0.3

# Hidden matrices of every kind: wide, tall, a convolution and stacked experts.
HIDDEN = {"wide": (8, 12), "tall": (12, 4), "conv": (3, 3, 2, 4), "experts": (3, 4, 6)}
SHAPES = {"in": (5, 8), **HIDDEN, "bias": (8,), "out": (4, 3)}
ROLES = {"in": "input", **dict.fromkeys(HIDDEN, "hidden"), "bias": "vector", "out": "output"}


def draw(seed: int) -> dict[str, jax.Array]:
    generator = np.random.default_rng(seed)
    return {name: jnp.asarray(generator.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}


def gradients(params):
    """Of a badly scaled quadratic bowl, so that rules differ."""
    target = draw(1)
    return {name: (params[name] - target[name]) * 10.0**scale for scale, name in enumerate(SHAPES, start=-3)}


def take_steps(spec: OptimizerSpec, num_steps: int = 3, eps_factor: float = 1.0):
    direction = make_direction(spec, ROLES, eps_factor)

    @jax.jit
    def step(params, state):
        update, state = direction.update(gradients(params), state, params)
        return apply_update(params, update, jnp.float32(LR), jnp.float32(spec.weight_decay)), state

    params = draw(0)
    state = direction.init(params)
    for _ in range(num_steps):
        params, state = step(params, state)
    return params


def take_steps_of(optimizer: optax.GradientTransformation, num_steps: int = 3):
    params = draw(0)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        update, state = optimizer.update(gradients(params), state, params)
        return optax.apply_updates(params, update), state

    for _ in range(num_steps):
        params, state = step(params, state)
    return params


def are_matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def with_decay(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Decoupled decay of the matrices, in front of a rule that only rescales."""
    return optax.chain(optimizer, optax.add_decayed_weights(DECAY, are_matrices), optax.scale_by_learning_rate(LR))


EQUALS = {
    "sgd": (SGDSpec(peak_lr=1.0, momentum=0.0), optax.sgd(LR)),
    "momentum": (SGDSpec(peak_lr=1.0, momentum=0.8), optax.sgd(LR, 0.8)),
    "nesterov": (SGDSpec(peak_lr=1.0, momentum=0.8, nesterov=True), optax.sgd(LR, 0.8, nesterov=True)),
    "adam": (AdamSpec(peak_lr=1.0, b1=0.8, b2=0.9, eps=1e-3), optax.adam(LR, b1=0.8, b2=0.9, eps=1e-3)),
    "adamw": (AdamWSpec(peak_lr=1.0, weight_decay=DECAY), optax.adamw(LR, weight_decay=DECAY, mask=are_matrices)),
    "rmsprop": (
        RMSPropSpec(peak_lr=1.0, decay=0.8, eps=1e-3, momentum=0.7),
        optax.rmsprop(LR, decay=0.8, eps=1e-3, momentum=0.7, eps_in_sqrt=False),
    ),
    "rmsprop with decay": (
        RMSPropSpec(peak_lr=1.0, weight_decay=DECAY),
        with_decay(optax.scale_by_rms(0.9, 1e-8, eps_in_sqrt=False)),
    ),
    "lion": (
        LionSpec(peak_lr=1.0, b1=0.7, b2=0.8, weight_decay=DECAY),
        optax.lion(LR, b1=0.7, b2=0.8, weight_decay=DECAY, mask=are_matrices),
    ),
}


@pytest.mark.parametrize("name", EQUALS)
def test_every_rule_equals_optaxs_own(name):
    spec, theirs = EQUALS[name]
    mine = take_steps(spec)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), mine, take_steps_of(theirs))


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_equals_optaxs_own_on_hidden_matrices_and_adam_elsewhere(nesterov):
    def axes(params):
        numbers = optax.contrib.MuonDimensionNumbers
        given = {"wide": numbers(0, 1), "tall": numbers(0, 1), "conv": numbers((0, 1, 2), 3), "experts": numbers(1, 2)}
        return {name: given.get(name) for name in params}

    theirs = optax.contrib.muon(
        LR,
        ns_steps=4,
        beta=0.8,
        nesterov=nesterov,
        weight_decay=DECAY,
        weight_decay_mask=are_matrices,
        muon_weight_dimension_numbers=axes,
    )
    spec = MuonSpec(peak_lr=1.0, momentum=0.8, newton_schulz_steps=4, nesterov=nesterov, weight_decay=DECAY)
    mine, muon = take_steps(spec), take_steps_of(theirs)
    adam = take_steps(AdamWSpec(peak_lr=1.0, weight_decay=DECAY))
    for name, role in ROLES.items():
        expected = muon if role == "hidden" else adam
        np.testing.assert_allclose(mine[name], expected[name], rtol=2e-4, atol=1e-5, err_msg=name)
        assert role != "hidden" or not np.allclose(mine[name], adam[name], rtol=1e-2)


def test_muon_gives_every_matrix_singular_values_near_the_root_of_its_fans():
    update, _ = (direction := make_direction(MuonSpec(peak_lr=1.0), ROLES)).update(draw(0), direction.init(draw(0)))
    matrices = {"wide": update["wide"], "tall": update["tall"], "conv": update["conv"].reshape(18, 4)}
    matrices |= {f"expert {e}": matrix for e, matrix in enumerate(update["experts"])}
    for name, matrix in matrices.items():
        fan_in, fan_out = matrix.shape
        values = np.linalg.svd(matrix, compute_uv=False) / np.sqrt(max(1.0, fan_out / fan_in))
        assert ((values > 0.6) & (values < 1.3)).all(), (name, values)


def test_muon_needs_the_roles():
    with pytest.raises(ValueError, match="kind=muon needs the role of every array"):
        make_direction(MuonSpec(peak_lr=1.0))


def test_a_population_member_equals_its_solo_run():
    direction = make_direction(MuonSpec(peak_lr=1.0), ROLES)

    def run(params, lr):
        update, _ = direction.update(gradients(params), direction.init(params), params)
        return apply_update(params, update, lr, jnp.float32(DECAY))

    starts, rates = [draw(seed) for seed in range(3)], jnp.asarray([0.01, 0.02, 0.03])
    population = jax.jit(jax.vmap(run))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts), rates)
    solo = jax.jit(run)
    for member, start in enumerate(starts):
        for name, array in solo(start, rates[member]).items():
            np.testing.assert_allclose(population[name][member], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", [AdamSpec(peak_lr=1.0), RMSPropSpec(peak_lr=1.0), MuonSpec(peak_lr=1.0)])
def test_the_factor_on_eps_equals_another_eps(spec):
    mine, theirs = take_steps(spec, eps_factor=1e6), take_steps(spec.model_copy(update={"eps": 1e-2}))
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    assert not np.allclose(mine["in"], take_steps(spec)["in"], rtol=1e-4)


def test_the_update_multiplies_rates_and_decays_by_each_arrays_factors():
    params, direction = draw(0), draw(1)
    lr_factors = {name: 1.0 + index for index, name in enumerate(SHAPES)}
    decay_factors = {name: 0.5 * index for index, name in enumerate(SHAPES)}
    updated = apply_update(params, direction, jnp.float32(LR), jnp.float32(DECAY), lr_factors, decay_factors)
    for name, p in params.items():
        decay = DECAY * decay_factors[name] * p if name != "bias" else 0.0
        expected = p - LR * lr_factors[name] * (direction[name] + decay)
        np.testing.assert_allclose(updated[name], expected, rtol=1e-5, atol=1e-6)


def test_factors_of_one_change_no_bit():
    def update(factors):
        rate = jnp.float32(LR)
        return jax.jit(lambda p, d: apply_update(p, d, rate, jnp.float32(DECAY), factors, factors))(draw(0), draw(1))

    def plain(p, d):
        return p - jnp.float32(LR) * (d + jnp.float32(DECAY) * p) if p.ndim > 1 else p - jnp.float32(LR) * d

    by_hand = jax.jit(lambda params, direction: jax.tree.map(plain, params, direction))(draw(0), draw(1))
    for factors in (None, dict.fromkeys(SHAPES, 1.0)):
        jax.tree.map(np.testing.assert_array_equal, update(factors), by_hand)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match=r"nesterov=true has no effect with momentum=0\.0; set momentum"):
        SGDSpec(peak_lr=1.0, momentum=0.0, nesterov=True)
