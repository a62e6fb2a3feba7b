"""Claims about the laws M1 to M4: the implicit one solves its equation, and extrapolates best."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitting import solver
from analysis.fitting.fit_law import fit_law
from analysis.laws.learning_curves import predict_m4
from analysis.laws.registry import get_law
from tests.analysis.papers import read_public


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


def read_vision():
    """All 72 curves: task and model, training points, points to predict."""
    table = read_public("revisiting_vision.csv.gz")
    return [
        (key, *(part.query(f"Training == {flag}") for flag in (1, 0))) for key, part in table.groupby(["Task", "Model"])
    ]


def score_curves(curves, laws=("m1", "m2", "m3", "m4"), every=1):
    """Mean over curves of the authors' score of each law: root mean square of log errors where it extrapolates."""
    scores = {law: [] for law in laws}
    for _, train, test in curves:
        for law in laws:
            seen = {"data_seen": train["Seen Examples"].to_numpy()[::every]}
            fit = fit_law(law, seen, train["Loss"].to_numpy()[::every], objective="log_mse")
            fitted = fit.predict({"data_seen": test["Seen Examples"].to_numpy()})
            scores[law].append(np.sqrt(np.mean((np.log(fitted) - np.log(test["Loss"].to_numpy())) ** 2)))
    return {law: float(np.mean(values)) for law, values in scores.items()}


@pytest.mark.slow
def test_m4_extrapolates_best_on_the_mean_over_four_image_curves(monkeypatch):
    monkeypatch.setattr(solver, "MAX_ITERATIONS", 40)  # the best start arrives in some 20 steps, the worst in 300
    scores = score_curves(read_vision()[::18], every=4)
    assert scores["m4"] < min(scores["m1"], scores["m2"], scores["m3"])


@pytest.mark.slow
def test_m4_extrapolates_best_on_the_mean_over_all_image_curves(monkeypatch):
    monkeypatch.setattr(solver, "MAX_ITERATIONS", 60)
    curves = read_vision()
    assert len(curves) == 72
    scores = score_curves(curves)
    assert scores["m4"] < 0.7 * min(scores["m1"], scores["m2"], scores["m3"])
