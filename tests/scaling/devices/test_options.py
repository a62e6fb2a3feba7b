"""Options that this JAX or its XLA does not know are left out, and all others are used."""

import jax
import pytest

from scaling.devices.options import compile_lightly, configure


def test_an_option_of_jax_that_is_not_known_is_left_out():
    before = jax.config.jax_debug_nans
    try:
        assert configure(jax_invented=True, jax_debug_nans=not before) == {"jax_debug_nans"}
        assert jax.config.jax_debug_nans is not before
    finally:
        jax.config.update("jax_debug_nans", before)


@pytest.mark.parametrize("known", [{}, {"xla_backend_optimization_level": 1}])
def test_an_option_of_xla_that_is_not_known_is_left_out_and_others_are_used(monkeypatch, known):
    given = {}
    compile_as_usual = jax.jit

    def jit(function, compiler_options=None, **how):
        given[function] = compiler_options
        return compile_as_usual(function, compiler_options=compiler_options, **how)

    def double(x):
        return 2 * x

    monkeypatch.setattr(jax, "jit", jit)
    compiled = compile_lightly(double, {"xla_invented": 1, **known, "xla_cpu_invented": True})
    assert [float(compiled(x)) for x in (1.0, 2.0)] == [2.0, 4.0]
    assert (given[double] or {}) == known


def test_how_it_is_compiled_can_be_said():
    assert compile_lightly(lambda x, n: n * x, static_argnums=1)(2.0, 3) == 6.0


def test_its_results_have_shapes_without_being_compiled():
    init = compile_lightly(lambda key: jax.random.normal(key, (3, 2)))
    assert jax.eval_shape(init, jax.random.key(0)).shape == (3, 2)
