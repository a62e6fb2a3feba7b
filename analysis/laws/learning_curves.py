"""Alabdulmohsin's four estimators M1 to M4 of one learning curve: error or loss against examples seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.laws.law import EXPONENT, TARGET, Array, Law, Range, register
from analysis.laws.maths import decay, exp, grow, log, maximum, minimum, sigmoid, softplus

SOURCE = "Alabdulmohsin et al. 2022, arXiv 2209.06640"
NEWTON_STEPS = 8  # from the asymptotes 4 reach rounding for alpha = 1, and 7 for the smallest, 0.01

# The authors write x^c with negative c; here c is positive and x^-c falls.
m1 = register(
    Law(
        name="m1",
        formula="eps = beta x^-c",
        source=SOURCE + ", M1",
        variables=("data_seen",),
        linear=("beta",),
        nonlinear={"c": EXPONENT},
        terms=lambda x, c: (decay(x, c),),
        units={"data_seen": "examples"},
        example={"beta": 5.0, "c": 0.3},  # plausible
        design={"data_seen": (1e2, 1e6)},
    )
)

m2 = register(
    Law(
        name="m2",
        formula="eps = eps_inf + beta x^-c",
        source=SOURCE + ", M2",
        variables=("data_seen",),
        linear=("eps_inf", "beta"),
        nonlinear={"c": EXPONENT},
        terms=lambda x, c: (1.0, decay(x, c)),
        units={"data_seen": "examples"},
        example={"eps_inf": 0.1, "beta": 5.0, "c": 0.5},  # plausible
        design={"data_seen": (1e2, 1e6)},
    )
)

m3 = register(
    Law(
        name="m3",
        formula="eps = beta (1/x + gamma)^c",
        source=SOURCE + ", M3",
        variables=("data_seen",),
        linear=("beta",),
        nonlinear={"c": EXPONENT, "gamma": Range(1e-14, 1.0, log=True)},
        terms=lambda x, c, gamma: (grow(1 / x + gamma, c),),
        derived=lambda p: {"eps_inf": p["beta"] * p["gamma"] ** p["c"]},
        units={"data_seen": "examples", "gamma": "1/examples"},
        example={"beta": 5.0, "c": 0.4, "gamma": 1e-5},  # plausible
        design={"data_seen": (1e2, 1e6)},
    )
)


def predict_m4(x: Any, beta: Any, c: Any, alpha: Any, eps_inf: Any, eps0: Any) -> Any:
    """Returns the eps that solves (eps - eps_inf) / (eps0 - eps)^alpha = beta x^-c.

    With b = eps0 - eps_inf and eps = eps_inf + b sigmoid(s) it reads alpha softplus(s) - softplus(-s) = t, where
    t = log(beta) - c log(x) - (1 - alpha) log(b). The left side rises, with slopes from 1 to alpha, and bends one way
    only, so that Newton's steps converge from anywhere; they start from its asymptotes.

    >>> eps = float(predict_m4(100.0, 2.0, 0.5, 1.0, 0.1, 0.9))
    >>> round((eps - 0.1) / (0.9 - eps), 12)
    0.2
    """
    b = eps0 - eps_inf
    t = log(beta) - c * log(x) - (1 - alpha) * log(b)
    s = minimum(t, 0.0) + maximum(t, 0.0) / alpha
    for _ in range(NEWTON_STEPS):
        up = softplus(s)
        rise = exp(s - up)  # sigmoid(s)
        s = s - (alpha * up + s - up - t) / (1 - rise + alpha * rise)  # s - up = -softplus(-s)
    return eps_inf + b * sigmoid(s)


def start_m4(columns: Sequence[Array], y: Array) -> Array:
    """Returns starts `[s, 5]` of M4: beta, c and alpha by least squares, as the authors do, over (eps_inf, eps0)."""
    from scipy.optimize import nnls

    x, smallest, largest = np.asarray(columns[0]), float(np.min(y)), float(np.max(y))
    tops = [largest * times for times in (1.001, 1.01, 1.05, 1.2, 1.5, 2.0, 4.0, 10.0)]
    tops += [1.0] if largest < 1 else []  # the error of the worst classifier: the authors fix it for vision
    found = []
    for share in (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995):
        for eps0 in tops:
            eps_inf = share * smallest
            ones = np.ones(len(x))
            design = np.stack([ones, -ones, -np.log(x), np.log(eps0 - y)], axis=1)
            up, down, c, alpha = nnls(design, np.log(y - eps_inf))[0]
            found.append([np.exp(up - down), max(c, 1e-3), max(alpha, 1e-2), eps_inf, eps0])
    return np.array(found)


m4 = register(
    Law(
        name="m4",
        formula="(eps - eps_inf) / (eps0 - eps)^alpha = beta x^-c",
        source=SOURCE + ", M4",
        variables=("data_seen",),
        linear=(),
        nonlinear={
            "beta": Range(1e-8, 1e16, log=True),
            "c": (1e-3, 2.0),
            "alpha": (1e-2, 10.0),
            "eps_inf": Range(0.0, 1.0, of=TARGET),
            "eps0": Range(1.0, 20.0, log=True, of=TARGET),
        },
        terms=predict_m4,
        starts=start_m4,
        units={"data_seen": "examples", "eps0": "error before any training: 1 in the authors' vision tasks"},
        example={"beta": 20.0, "c": 0.5, "alpha": 1.2, "eps_inf": 0.08, "eps0": 1.0},  # plausible
        design={"data_seen": (1e2, 1e7)},
    )
)
