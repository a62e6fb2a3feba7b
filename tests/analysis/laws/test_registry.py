"""Claims about all laws of the registry: samples, bounds, NumPy against JAX, what is held, recovery of a truth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS, get_law

FORMS = "last1 pow2 log2 exp2 lin2 ilog2 pow3 exp3 vap3 expp3 expd3 logpower3 pow4 mmf4 wbl4 exp4"


OTHERS = (
    "power power_floor chinchilla chinchilla_tied m1 m2 m3 m4 kaplan_n kaplan_d kaplan_nd kaplan_ns skaling "
    "overtrained farseer rosenfeld data_constrained precision precision_ptq moe regions bnsl bnsl2 bnsl3 zhai "
    "gadre_error accuracy_sigmoid mixture2 mixture3 mixture4 mixture5 step_law_lr "
    "step_law_batch deepseek_lr deepseek_batch"
)


EVERY = sorted(name for name, law in LAWS.items() if law.design)  # those of whole curves have tests of their own


def sample_columns(name, levels=4):
    table = LAWS[name].sample(levels=levels, noise=0.0)
    return {column: table[column].to_numpy() for column in LAWS[name].variables}


def test_the_registry_holds_every_law_of_the_project():
    lcdb = {f"lcdb_{form}" for form in FORMS.split()}
    others = set(OTHERS.split())
    assert lcdb | others <= set(LAWS)
    assert len(lcdb) == 16


@pytest.mark.parametrize("name", EVERY)
def test_a_sample_is_finite_and_positive(name):
    law = LAWS[name]
    assert set(law.example) == set(law.params)
    assert set(law.design) == set(law.variables)
    y = law.sample(levels=5, noise=0.0)[law.target]
    assert np.isfinite(y).all()
    assert (y > 0).all()


@pytest.mark.parametrize("name", EVERY)
def test_its_example_is_within_its_bounds(name):
    law = LAWS[name]
    table = law.sample(levels=5, noise=0.0)
    for parameter, bounds in law.ranges.items():
        low, high = bounds.resolve(
            {**{column: table[column].to_numpy() for column in table}, "target": table[law.target]}
        )
        assert low <= law.example[parameter] <= high, parameter
    for coefficient in set(law.linear) - set(law.signed):
        assert law.example[coefficient] >= 0


@pytest.mark.parametrize("name", EVERY)
def test_numpy_and_jax_agree_and_derivatives_are_finite(name):
    law, columns = LAWS[name], sample_columns(name)
    arrays, vector = law.read(columns), np.array([law.example[parameter] for parameter in law.params])
    expected = law.predict(law.example, columns)
    with jax.enable_x64(True):
        inputs = [jnp.asarray(array) for array in arrays]

        def evaluate(params):
            value = law.evaluate(inputs, [params[i] for i in range(len(vector))])
            value = jnp.broadcast_to(value, arrays[0].shape)
            return value, value

        slopes, value = jax.jit(jax.jacfwd(evaluate, has_aux=True))(jnp.asarray(vector))
        np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-12)
        assert np.isfinite(np.asarray(slopes)).all()
    step = 1e-6 * np.maximum(np.abs(vector), 1e-9)
    for i in range(len(vector)):
        ends = vector + step[i] * np.eye(len(vector))[i] * np.array([[1.0], [-1.0]])
        ahead, behind = law.predict_many(ends, columns)
        scale = np.abs(expected) / np.abs(vector[i])
        kinks = np.isclose((ahead - behind) / (2 * step[i]), np.asarray(slopes)[:, i], rtol=1e-5, atol=1e-6 * scale)
        assert kinks.mean() > 0.9 if name == "data_constrained" else kinks.all(), law.params[i]


@pytest.mark.parametrize("name", EVERY)
def test_many_parameter_vectors_are_evaluated_at_once(name):
    law, columns = LAWS[name], sample_columns(name)
    vector = np.array([law.example[parameter] for parameter in law.params])
    both = law.predict_many(np.stack([vector, vector * 1.001]), columns)
    np.testing.assert_allclose(both[0], law.predict(law.example, columns), rtol=1e-13)
    np.testing.assert_allclose(
        both[1], law.predict(dict(zip(law.params, vector * 1.001, strict=True)), columns), rtol=1e-13
    )


@pytest.mark.parametrize("name", [name for name in EVERY if LAWS[name].link])
def test_link_and_unlink_are_inverse(name):
    law = LAWS[name]
    y = law.predict(law.example, sample_columns(name))
    theta = [law.example[parameter] for parameter in law.nonlinear]
    np.testing.assert_allclose(law.link(law.unlink(y, *theta), *theta), y, rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in EVERY if LAWS[name].derived])
def test_derived_quantities_are_finite_for_one_and_for_many(name):
    law = LAWS[name]
    one = law.derived(law.example)
    many = law.derived({parameter: np.full(3, value) for parameter, value in law.example.items()})
    for quantity, value in one.items():
        assert np.isfinite(value)
        np.testing.assert_allclose(many[quantity], np.full(3, value), rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_any_parameter_can_be_held(name):
    law, columns = LAWS[name], sample_columns(name)
    if len(law.params) == 1:
        with pytest.raises(AnalysisError, match="leave one to fit"):
            law.hold(law.example)
        return
    expected = law.predict(law.example, columns)
    for parameter in law.params:
        held = law.hold({parameter: law.example[parameter]})
        rest = {other: value for other, value in law.example.items() if other != parameter}
        assert parameter not in held.params
        np.testing.assert_allclose(held.predict(rest, columns), expected, rtol=1e-12)
        if law.derived:
            assert held.derived(rest) == law.derived(law.example)


@pytest.mark.parametrize("name", [name for name in EVERY if LAWS[name].starts])
def test_its_starts_are_finite_and_within_its_bounds(name):
    law = LAWS[name]
    table = law.sample(levels=5, noise=0.003)
    columns = {column: table[column].to_numpy() for column in table}
    starts = law.starts([columns[variable] for variable in law.variables], columns[law.target])
    assert starts.shape[1] == len(law.nonlinear)
    assert len(starts) > 20
    assert np.isfinite(starts).all()


@pytest.mark.parametrize(
    "name", ["m3", "m4", "kaplan_nd", "overtrained", "rosenfeld", "regions", "zhai", "moe", "step_law_lr", "lcdb_exp3"]
)
def test_a_law_is_recovered_from_its_own_points(name):
    law = LAWS[name]
    table = law.sample(levels=14 if len(law.variables) == 1 else 6, noise=0.0)
    columns = {column: table[column].to_numpy() for column in law.variables}
    fit = fit_law(name, columns, table[law.target].to_numpy(), objective="mse" if law.objective == "mse" else "log_mse")
    assert fit.params == pytest.approx(law.example, rel=1e-3)


def test_unknown_law_names_the_nearest():
    with pytest.raises(
        AnalysisError,
        match=r"^law='power_flor' is unknown; did you mean 'power_floor'\?; a study's own is found with --study FILE$",
    ):
        get_law("power_flor")
