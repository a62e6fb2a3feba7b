"""A module as two pure functions: NNX and Linen alike, under jit and vmap, with state and randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.tracing.definition import define, example_inputs
from tests.scaling.models import own_modules
from tests.scaling.models.networks import NUMBERS, TEXT


@pytest.mark.parametrize(
    ("make", "task"),
    [(own_modules.own_mlp, NUMBERS), (own_modules.gated_mlp, NUMBERS), (own_modules.state_space, TEXT)],
)
def test_members_of_a_population_are_what_each_is_alone(make, task):
    definition = define(make, 16, task, {})
    like = example_inputs(task, 4)
    inputs = jax.random.randint(jax.random.key(9), like.shape, 0, 10).astype(like.dtype)

    def run(seed):
        variables = definition.init(jax.random.key(seed))
        outputs, state = definition.apply(variables, inputs, train=True, key=jax.random.key(seed + 100))
        return variables, outputs, state

    together = jax.jit(jax.vmap(run))(jnp.arange(3))
    for seed in range(3):
        alone = jax.jit(run)(seed)
        for one, every in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(one, every[seed], rtol=1e-5, atol=1e-5)


def test_variables_are_plain_nested_dicts_of_arrays_with_names():
    variables = define(own_modules.own_mlp, 8, NUMBERS, {"depth": 3}).init(jax.random.key(0))
    assert set(variables["params"]["others"]) == {"0", "1"}
    assert variables["state"] == {}
    leaves = jax.tree.leaves(variables)
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in leaves)


def test_batch_statistics_follow_training_alone():
    definition = define(own_modules.gated_mlp, 8, NUMBERS, {})
    variables, inputs = definition.init(jax.random.key(0)), jnp.ones((4, 64))
    _, after = definition.apply(variables, inputs, train=True, key=jax.random.key(0))
    _, evaluated = definition.apply(variables, inputs, train=False, key=None)
    mean = variables["state"]["batch_stats"]["norm"]["mean"]
    assert (after["batch_stats"]["norm"]["mean"] != mean).any()
    assert (evaluated["batch_stats"]["norm"]["mean"] == mean).all()
