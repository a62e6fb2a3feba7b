"""Claims about the law registry: formulas against published numbers, NumPy against JAX, errors that name the remedy."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.fitting.fit_law import fit_law
from analysis.laws.breaks import make_bnsl
from analysis.laws.law import Range, register
from analysis.laws.learning_curves import predict_m4
from analysis.laws.registry import LAWS, get_law
from analysis.laws.size_and_data import convert_farseer
from analysis.uncertainty.predictions import chain

FORMS = "last1 pow2 log2 exp2 lin2 ilog2 pow3 exp3 vap3 expp3 expd3 logpower3 pow4 mmf4 wbl4 exp4"
OTHERS = (
    "power power_floor chinchilla chinchilla_tied m1 m2 m3 m4 kaplan_n kaplan_d kaplan_nd kaplan_ns skaling "
    "overtrained farseer rosenfeld data_constrained precision precision_ptq moe regions bnsl bnsl2 bnsl3 zhai "
    "gadre_error accuracy_sigmoid step_law_lr step_law_batch deepseek_lr deepseek_batch"
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


def test_the_only_coefficient_can_be_held():
    held = get_law("power").hold({"A": 5.0})
    np.testing.assert_allclose(held.predict({"alpha": 0.5}, {"data_unique": [4.0, 16.0]}), [2.5, 1.25])


@pytest.mark.parametrize("name", [name for name in EVERY if LAWS[name].starts])
def test_its_starts_are_finite_and_within_its_bounds(name):
    law = LAWS[name]
    table = law.sample(levels=5, noise=0.003)
    columns = {column: table[column].to_numpy() for column in table}
    starts = law.starts([columns[variable] for variable in law.variables], columns[law.target])
    assert starts.shape[1] == len(law.nonlinear)
    assert len(starts) > 20
    assert np.isfinite(starts).all()


# --- published numbers ------------------------------------------------------------------------------------------------


def test_chinchilla_predicts_the_published_loss():
    # Besiroglu et al. 2024 at Chinchilla's budget: N* 7.236e10 with C = 5.76e23 gives L* 1.97396
    published = {"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}
    at = {"num_params": [7.236e10], "data_seen": [5.76e23 / 6 / 7.236e10]}
    assert get_law("chinchilla").predict(published, at)[0] == pytest.approx(1.97396, abs=2e-5)


def test_kaplan_predicts_the_published_losses_and_returns_the_published_constants():
    law = get_law("kaplan_n")
    losses = law.predict(law.example, {"num_params": [1e8, 1e9, 1e10]})
    assert losses.round(3).tolist() == [2.830, 2.376, 1.994]
    assert law.derived(law.example)["N_c"] == pytest.approx(8.8e13)
    assert get_law("kaplan_d").derived(get_law("kaplan_d").example)["D_c"] == pytest.approx(5.4e13)


def test_kaplans_joint_law_has_the_separate_ones_as_limits():
    law, size, data = (get_law(name) for name in ("kaplan_nd", "kaplan_n", "kaplan_d"))
    many, few = 1e40, 1e8
    at = {"num_params": [few, many], "data_unique": [many, few]}
    expected = [
        size.predict(size.example, {"num_params": [few]})[0],
        data.predict(data.example, {"data_unique": [few]})[0],
    ]
    np.testing.assert_allclose(law.predict(law.example, at), expected, rtol=1e-6)


def test_muennighoff_predicts_the_published_losses():
    law = get_law("data_constrained")
    at = {"num_params": [6.34e9, 8.67e9], "data_seen": [242e9, 178e9], "data_unique": [25e9, 25e9]}
    np.testing.assert_allclose(law.predict(law.example, at), [2.2256440889984477, 2.2269634075087867], rtol=1e-14)


def test_unrepeated_data_and_a_model_that_is_small_enough_give_chinchillas_loss():
    law, tied = get_law("data_constrained"), get_law("chinchilla_tied")
    at = {"num_params": [1e8, 1e9], "data_seen": [1e10, 1e11]}
    same = {name: law.example[name] for name in ("E", "A", "B", "alpha")}
    for unique in (at["data_seen"], [1e12, 1e12]):
        np.testing.assert_allclose(law.predict(law.example, {**at, "data_unique": unique}), tied.predict(same, at))


def test_step_law_gives_the_published_learning_rate_and_batch():
    lr, batch = get_law("step_law_lr"), get_law("step_law_batch")
    at = {"num_params": [7e9], "data_seen": [1.4e12]}
    assert lr.predict(lr.example, at)[0] == pytest.approx(9.35e-4, rel=5e-4)
    assert batch.predict(batch.example, at)[0] == pytest.approx(5.00e6, rel=2e-3)


def test_gadres_two_writings_of_the_over_trained_law_agree():
    law = get_law("overtrained")
    E, a, b, eta = (law.example[name] for name in law.params)
    N, M = np.array([1e8, 1e9]), np.array([20.0, 640.0])
    C = 6 * N * N * M
    expected = E + a * M**eta * C**-eta + b * M**-eta * C**-eta
    np.testing.assert_allclose(law.predict(law.example, {"num_params": N, "data_seen": N * M}), expected)
    unfolded = law.derived(law.example)
    assert unfolded["A"] == pytest.approx(113.7, abs=0.1)  # "alpha" of the authors' code
    best = np.sqrt(1e21 / 6 / (unfolded["M"] * np.array([0.9, 1.0, 1.1])))
    losses = law.predict(law.example, {"num_params": best, "data_seen": 1e21 / 6 / best})
    assert losses.argmin() == 1


def test_farseer_equals_the_papers_formula_and_gives_its_constants_back():
    constants = {
        "s": -0.0624655, "q": 0.13, "S": 0.128488, "B": 230.734, "b": -0.1729, "Q": -1.54421,
        "A": -1.66563, "a": 0.0459, "E": 3.13335,
    }  # fmt: skip
    law, p = get_law("farseer"), constants
    N, D = np.array([2e8, 1e9, 6e9]), np.array([1e10, 1e11, 1e12])
    power = np.exp(p["A"] * N ** p["a"] + p["E"])
    expected = np.exp(p["s"] * N ** p["q"] + p["S"]) + np.exp(p["B"] * N ** p["b"] + p["Q"]) * D**-power
    params = convert_farseer(**constants)
    np.testing.assert_allclose(law.predict(params, {"num_params": N, "data_seen": D}), expected, rtol=1e-12)
    for name, value in law.derived(params).items():
        assert value == pytest.approx(constants[name], rel=1e-9)


def test_skalings_derived_constants_give_the_papers_formula():
    law = get_law("skaling")
    p, paper = law.example, law.derived(law.example)
    N, D = np.array([1e8, 1e9]), np.array([1e10, 1e9])
    expected = p["E"] + paper["A"] * (N ** -p["alpha"] + paper["R"] * D ** -p["beta"]) ** p["k"]
    np.testing.assert_allclose(law.predict(p, {"num_params": N, "data_seen": D}), expected)


def test_rosenfelds_error_is_a_guess_at_tiny_data_and_a_sum_of_powers_at_much():
    law = get_law("rosenfeld")
    few = law.predict(law.example, {"num_params": [1e6], "data_unique": [1e-6]})[0]
    assert few == pytest.approx(law.example["eps0"], rel=1e-6)
    much = law.predict(law.example, {"num_params": [1e30], "data_unique": [1e30]})[0]
    assert much == pytest.approx(law.example["c_inf"], rel=1e-3)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0, 1.7, 10.0])
@pytest.mark.parametrize("c", [0.001, 0.5, 2.0])
def test_m4_satisfies_its_implicit_equation(alpha, c):
    x, beta, eps_inf, eps0 = np.geomspace(1e2, 1e9, 30), 50.0, 0.07, 1.0
    y = predict_m4(x, beta, c, alpha, eps_inf, eps0)
    w, b = y - eps_inf, eps0 - eps_inf
    inside = (w > 1e-8) & (b - w > 1e-8)  # elsewhere subtraction alone loses the digits
    assert ((y >= eps_inf) & (y <= eps0)).all()
    w, x = w[inside], x[inside]
    np.testing.assert_allclose(w / (b - w) ** alpha, beta * x**-c, rtol=1e-6)


def test_m4_without_saturation_is_m2():
    x = np.geomspace(1e4, 1e6, 5)
    expected = get_law("m2").predict({"eps_inf": 0.1, "beta": 5.0, "c": 0.5}, {"data_seen": x})
    y = predict_m4(x, 5.0 / 1e9**0.7, 0.5, 0.7, 0.1, 1e9)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_one_break_from_a_plateau_to_a_floor_is_regions():
    p, x = get_law("regions").example, np.geomspace(10, 1e6, 9)
    same = {"a": p["gamma"], "b": p["eps0"] - p["gamma"], "c0": 0.0, "c1": p["c"], "d1": p["m0"], "f1": p["f"]}
    expected = get_law("regions").predict(p, {"data_unique": x})
    np.testing.assert_allclose(get_law("bnsl").predict(same, {"data_unique": x}), expected, rtol=1e-12)


def test_regions_say_where_the_power_law_meets_its_floor():
    law = get_law("regions")
    at = law.derived({**law.example, "f": 0.01})["m_inf"]
    y = law.predict({**law.example, "f": 0.05}, {"data_unique": [at]})[0]
    assert y == pytest.approx(2 * law.example["gamma"], rel=1e-3)


def test_breaks_change_the_slope_as_their_formula_says():
    p = {"a": 0.0, "b": 1.0, "c0": 0.1, "c1": 0.4, "d1": 1e4, "f1": 0.1, "c2": -0.3, "d2": 1e8, "f2": 0.1}
    x = np.array([[1e1, 1e2], [1e5, 1e6], [1e10, 1e11]])
    y = get_law("bnsl2").predict(p, {"data_unique": x.ravel()}).reshape(3, 2)
    np.testing.assert_allclose(np.diff(np.log10(y))[:, 0], [-0.1, -0.5, -0.2], atol=1e-9)
    assert len(make_bnsl(4, "any", {}).params) == 3 * 4 + 3


def test_gadres_error_at_a_published_point():
    law = get_law("gadre_error")
    expected = 0.8497 - 2.0789 * np.exp(-0.7561 * 3.0)
    assert law.predict(law.example, {"loss": [3.0]})[0] == pytest.approx(expected)


def test_two_steps_are_the_accuracy_of_the_loss():
    loss, accuracy = get_law("chinchilla"), get_law("accuracy_sigmoid")
    at = {"num_params": [1e8, 1e10], "data_seen": [2e9, 2e11]}
    expected = accuracy.predict(accuracy.example, {"loss": loss.predict(loss.example, at)})
    np.testing.assert_array_equal(chain(loss, loss.example, accuracy, accuracy.example)(at), expected)


# --- fits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["m3", "m4", "kaplan_nd", "overtrained", "rosenfeld", "regions", "zhai", "moe", "step_law_lr", "lcdb_exp3"]
)
def test_a_law_is_recovered_from_its_own_points(name):
    law = LAWS[name]
    table = law.sample(levels=14 if len(law.variables) == 1 else 6, noise=0.0)
    columns = {column: table[column].to_numpy() for column in law.variables}
    fit = fit_law(name, columns, table[law.target].to_numpy(), objective="mse" if law.objective == "mse" else "log_mse")
    assert fit.params == pytest.approx(law.example, rel=1e-3)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_unknown_law_names_the_nearest():
    with pytest.raises(AnalysisError, match=r"^law='power_flor' is unknown; did you mean 'power_floor'\?$"):
        get_law("power_flor")


def test_a_bad_column_is_refused_by_name():
    law = get_law("power")
    with pytest.raises(AnalysisError, match=r"data_unique=0\.0 must be finite and positive"):
        law.read({"data_unique": [1.0, 0.0]})
    with pytest.raises(AnalysisError, match="did you mean 'data_uniqu'"):
        law.read({"data_uniqu": [1.0]})
    with pytest.raises(AnalysisError, match="has 2 columns but law power takes 1"):
        law.bind(["a", "b"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "chinchilla"}, "is already registered; choose another name"),
        ({"nonlinear": {"alpha": (1.0, 0.5)}}, r"bad\.alpha has bounds \(1\.0, 0\.5\); the lower must be below"),
        ({"nonlinear": {"alpha": Range(0.0, 0.5, log=True)}}, r"bad\.alpha is searched in logarithms from 0\.0"),
        ({"link": np.exp}, "has one of link and unlink; give both or neither"),
    ],
)
def test_a_bad_registration_is_refused(changes, message):
    before = dict(LAWS)
    with pytest.raises(AnalysisError, match=message):
        register(dataclasses.replace(get_law("power"), **{"name": "bad", **changes}))
    assert before == LAWS


def test_a_parameter_that_does_not_exist_cannot_be_held():
    with pytest.raises(AnalysisError, match=r"did you mean 'alpha'\?"):
        get_law("power").hold({"alhpa": 1.0})


def test_a_sample_without_parameters_says_which_are_needed():
    law = dataclasses.replace(get_law("power"), example={})
    with pytest.raises(AnalysisError, match=r"has no example; give params of \('A', 'alpha'\)"):
        law.sample()


def test_bounds_in_units_follow_the_column_the_law_is_bound_to():
    law = get_law("regions").bind(["data_seen"])
    assert law.ranges["m0"].of == "data_seen"
    assert law.ranges["m0"].resolve({"data_seen": np.array([10.0, 1e4])}) == (3.0, 1e4)
