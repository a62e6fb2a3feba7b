"""Every way to attend gives the same values and gradients, whatever is skipped, folded or kept."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.kernels import attention
from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.specs.execution import Execution
from scaling.specs.models import TransformerSpec
from scaling.specs.task import token_task

Arrays = tuple[jax.Array, jax.Array, jax.Array]


@functools.cache
def draw(num_queries: int = 100, groups: int = 2, ratio: int = 1, size: int = 8, dtype: str = "float32") -> Arrays:
    """Returns queries, keys and values."""
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (2, num_queries, groups, ratio, size)
    query = 3.0 * jax.random.normal(keys[0], shape)
    key, value = (jax.random.normal(k, (2, num_queries, groups, size)) for k in keys[1:])
    return query.astype(dtype), key.astype(dtype), value.astype(dtype)


@functools.partial(jax.jit, static_argnames=("implementation", "causal"))
def attend(implementation: attention.Implementation, arrays: Arrays, *, causal: bool) -> jax.Array:
    return attention.attend(*arrays, causal=causal, scale=0.3, implementation=implementation)


@functools.partial(jax.jit, static_argnames=("implementation", "causal"))  # compiled once for all tests of a shape
def gradients(implementation: attention.Implementation, arrays: Arrays, *, causal: bool) -> Arrays:
    """Returns the gradients of a sum whose terms all differ."""

    def total(arrays: Arrays) -> jax.Array:
        mixed = attend(implementation, arrays, causal=causal).astype(jnp.float32)
        return (mixed * jnp.cos(jnp.arange(mixed.size)).reshape(mixed.shape)).sum()

    return jax.grad(total)(arrays)


@pytest.mark.parametrize("implementation", ["blocked", "fused"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("groups", "ratio"), [(2, 1), (1, 3)])
def test_implementations_agree_on_values_and_gradients(implementation, causal, groups, ratio):
    arrays = draw(groups=groups, ratio=ratio)
    expected = attend("plain", arrays, causal=causal)
    np.testing.assert_allclose(attend(implementation, arrays, causal=causal), expected, atol=1e-5)
    found = gradients(implementation, arrays, causal=causal)
    for mine, plain in zip(found, gradients("plain", arrays, causal=causal), strict=True):
        np.testing.assert_allclose(mine, plain, atol=1e-5)


@pytest.mark.parametrize("num_queries", [1, 64, 65, 600])
def test_blocks_agree_at_every_length(num_queries):
    arrays = draw(num_queries, groups=1, size=4)
    expected = attend("plain", arrays, causal=True)
    np.testing.assert_allclose(attend("blocked", arrays, causal=True), expected, atol=1e-5)
    found = gradients("blocked", arrays, causal=True)
    for mine, plain in zip(found, gradients("plain", arrays, causal=True), strict=True):
        np.testing.assert_allclose(mine, plain, atol=1e-5)


@pytest.mark.parametrize("implementation", ["plain", "blocked", "fused"])
def test_no_query_feels_a_later_key(implementation):
    query, keys, values = draw(130, groups=1)

    def early(keys: jax.Array, values: jax.Array) -> jax.Array:
        return attend(implementation, (query, keys, values), causal=True)[:, :70].sum()

    for gradient in jax.grad(early, (0, 1))(keys, values):
        assert jnp.abs(gradient[:, :70]).max() > 0
        np.testing.assert_array_equal(gradient[:, 70:], 0.0)


def test_scores_too_large_for_an_exponential_stay_finite():
    query, keys, values = draw()
    large = (1e4 * query, keys, values)
    assert jnp.isfinite(attend("blocked", large, causal=True)).all()
    assert all(jnp.isfinite(g).all() for g in gradients("blocked", large, causal=True))


@pytest.mark.parametrize("implementation", ["plain", "blocked"])
def test_half_precision_inputs_are_summed_in_float32(implementation):
    narrow = draw(256, dtype="bfloat16")
    wide = tuple(x.astype(jnp.float32) for x in narrow)
    found = attend(implementation, narrow, causal=True)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), attend("plain", wide, causal=True), atol=0.03)
    for mine, exact in zip(
        gradients(implementation, narrow, causal=True), gradients("plain", wide, causal=True), strict=True
    ):
        assert mine.dtype == jnp.bfloat16
        np.testing.assert_allclose(mine.astype(jnp.float32), exact, atol=0.06)


def test_a_population_is_attended_member_by_member():
    arrays = [draw(70), tuple(2.0 * x for x in draw(70))]
    stacked = tuple(np.stack(pair) for pair in zip(*arrays, strict=True))
    found = jax.jit(jax.vmap(lambda *member: gradients("blocked", member, causal=True)))(*stacked)
    for member, alone in enumerate(arrays):
        for mine, solo in zip(found, gradients("blocked", alone, causal=True), strict=True):
            np.testing.assert_allclose(mine[member], solo, atol=1e-5)


def test_auto_follows_the_backend_and_what_its_kernel_takes():
    query, keys, _ = draw(size=64)

    def auto(backend: str, dtype: str = "bfloat16", size: int = 64) -> str:
        q, k = query[..., :size].astype(dtype), keys[..., :size].astype(dtype)
        return attention.choose("auto", q, k, causal=True, backend=backend)

    assert auto("cpu") == auto("cpu", "float32") == "blocked"
    assert auto("gpu") == "fused"
    assert auto("gpu", "float32") == auto("gpu", size=12) == auto("tpu") == "plain"


def test_a_causal_mask_on_other_places_is_plain():
    query, keys, values = draw(70)
    fewer = (query, keys[:, :65], values[:, :65])
    assert attention.choose("blocked", query, keys[:, :65], causal=True) == "plain"
    assert attend("blocked", fewer, causal=True).shape == query.shape


def test_blocks_do_not_keep_the_hidden_half():
    arrays = draw(512, groups=1)

    def kept(implementation: attention.Implementation) -> int:
        _, pull_back = jax.vjp(lambda *a: attend(implementation, a, causal=True), *arrays)
        return sum(x.size for x in jax.tree.leaves(pull_back))

    pairs = 2 * 512 * 512
    assert kept("blocked") < 0.75 * pairs < kept("plain")


# --- in networks ----------------------------------------------------------------------------------------------------


def network(spec: TransformerSpec, how: attention.Implementation, objective: str = "next_token") -> tuple:
    """Returns (model, variables, tokens) of a small network."""
    shape = make_shape(spec, dataclasses.replace(token_task(11, 80), objective=objective))
    model = build(shape, Execution(attention=how))
    tokens = jax.random.randint(jax.random.key(1), (2, 80), 0, 11)
    return model, model.init(jax.random.key(0)), tokens


def logits(how: attention.Implementation, spec: TransformerSpec, taps: dict | None = None) -> jax.Array:
    model, variables, tokens = network(spec, how, "masked" if spec.form == "encoder" else "next_token")
    if taps is not None:
        return model.apply(variables, tokens, train=False, key=None, taps=taps)[0].logits
    return jax.jit(lambda v, x: model.apply(v, x, train=False, key=None)[0].logits)(variables, tokens)


SMALL = TransformerSpec(width=24, depth=1, aspect="fixed_depth", head_size=6)


@pytest.mark.parametrize(
    ("how", "change"),
    [
        pytest.param("fused", {"num_kv_heads": 2}, marks=pytest.mark.slow),
        ("blocked", {"num_kv_heads": 2}),
        pytest.param("blocked", {"form": "encoder"}, marks=pytest.mark.slow),
        pytest.param("blocked", {"form": "encoder_decoder"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_networks_say_the_same_however_they_attend(how, change):
    spec = SMALL.model_copy(update=change)
    np.testing.assert_allclose(logits(how, spec), logits("plain", spec), atol=2e-5)


@pytest.mark.slow
def test_who_taps_sees_the_scores():
    taps: dict[str, jax.Array] = {}
    tapped = logits("blocked", SMALL, taps)
    scores = [x for path, x in taps.items() if path.endswith("/scores")]
    assert [x.shape for x in scores] == [(2, 4, 1, 80, 80)]
    np.testing.assert_allclose(tapped, logits("blocked", SMALL), atol=2e-5)


def test_dropout_reaches_the_weights_of_attention():
    model, variables, tokens = network(SMALL.model_copy(update={"dropout": 0.5}), "blocked")
    plain = network(SMALL.model_copy(update={"dropout": 0.5}), "plain")[0]
    key = jax.random.key(2)
    found, expected = (
        jax.jit(lambda v, x, m=m: m.apply(v, x, train=True, key=key)[0].logits)(variables, tokens)
        for m in (model, plain)
    )
    np.testing.assert_array_equal(found, expected)
