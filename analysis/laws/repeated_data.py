"""Loss when data are repeated: repeats and excess parameters are worth less and less (Muennighoff)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.laws.law import TARGET, Array, Law, Range, register
from analysis.laws.maths import decay, exp, expm1, log, maximum, minimum, split_budget


def count_effective(unique: Any, total: Any, scale: Any) -> Any:
    """Returns what `total` tokens (or parameters) of which `unique` are new are worth, in new ones.

    U + U R* (1 - e^(-R/R*)) with R = total/U - 1 repeats; never more than U (1 + R*).

    >>> [round(float(count_effective(1.0, epochs, 15.387756)), 3) for epochs in (2.0, 4.0, 8.0, 16.0, 40.0)]
    [1.968, 3.726, 6.624, 10.582, 15.167]
    """
    repeats = maximum(total / unique - 1.0, 0.0)
    return unique * (1.0 - scale * expm1(-repeats / scale))


def _stretch(N: Any, D: Any, U: Any, log_ratio: Any, alpha: Any, beta: Any, R_D: Any, R_N: Any) -> tuple[Any, Any]:
    """Returns the effective N' and D'; `log_ratio` is log(A/B)."""
    unique = minimum(D, U)
    log_g = (log(alpha) - log(beta) + log_ratio) / (alpha + beta)
    optimal = exp(log_g * (1 + beta / alpha) + log(unique) * (beta / alpha))
    enough = minimum(optimal, N)
    return count_effective(enough, N, R_N), count_effective(unique, D, R_D)


def predict_loss(N: Any, D: Any, U: Any, E: Any, A: Any, B: Any, alpha: Any, beta: Any, R_D: Any, R_N: Any) -> Any:
    """Returns the loss of N parameters after D tokens of which U are unique.

    E + A/N'^alpha + B/D'^beta. D' counts min(D, U) unique tokens; N' counts as useful min(N, N_opt) parameters, where
    N_opt = G (G U)^(beta/alpha) with G = (alpha A / (beta B))^(1/(alpha+beta)) is what suits the unique tokens.

    >>> e, a, b = (math.exp(value) for value in (0.6254804, 6.255414, 7.3049974))
    >>> constants = (e, a, b, 0.3526596, 0.3526596, 15.387756, 5.309743)
    >>> [round(float(predict_loss(n, d, 25e9, *constants)), 12) for n, d in ((6.34e9, 242e9), (8.67e9, 178e9))]
    [2.225644088998, 2.226963407509]
    """
    size, data = _stretch(N, D, U, log(A) - log(B), alpha, beta, R_D, R_N)
    return E + A * decay(size, alpha) + B * decay(data, beta)


def start_data_constrained(columns: Sequence[Array], y: Array) -> Array:
    """Returns starts `[s, 7]`: E, A and B by non-negative least squares over a grid of the other four."""
    from scipy.optimize import nnls

    N, D, U = (np.asarray(column) for column in columns)
    found = []
    exponents = (0.1, 0.2, 0.3, 0.4, 0.55, 0.8)
    for alpha in exponents:
        for beta in exponents:
            for R_D in (2.0, 6.0, 15.0, 40.0):
                log_ratio = 0.0
                for turn in range(2):  # without excess parameters at first: what is excess depends on A/B
                    size, data = _stretch(N, D, U, log_ratio, alpha, beta, R_D, 5.0)
                    terms = np.stack([np.ones_like(N), decay(N if turn == 0 else size, alpha), decay(data, beta)], 1)
                    norm = np.abs(terms).max(0)
                    E, A, B = nnls(terms / norm / y[:, None], np.ones_like(y))[0] / norm
                    if not (A > 0 and B > 0):
                        break
                    log_ratio = math.log(A / B)
                    found.append([E, A, B, alpha, beta, R_D, 5.0])
    return np.array(found).reshape(-1, 7)


data_constrained = register(
    Law(
        name="data_constrained",
        formula="L = E + A/N'^alpha + B/D'^beta, D' = U + U R_D (1 - e^(-(D/U - 1)/R_D)), N' likewise with R_N",
        source="Muennighoff et al. 2023, arXiv 2305.16264",
        variables=("num_params", "data_seen", "data_unique"),
        linear=(),
        nonlinear={
            "E": Range(0.0, 1.0, of=TARGET),
            "A": Range(1e-2, 1e10, log=True),
            "B": Range(1e-2, 1e10, log=True),
            "alpha": (0.01, 1.5),
            "beta": (0.01, 1.5),
            "R_D": Range(0.3, 300.0, log=True),
            "R_N": Range(0.3, 300.0, log=True),
        },
        terms=predict_loss,
        starts=start_data_constrained,
        derived=split_budget,
        units={"num_params": "parameters", "data_seen": "tokens", "data_unique": "tokens", "R_D": "epochs beyond 1"},
        example={
            "E": math.exp(0.6254804),
            "A": math.exp(6.255414),
            "B": math.exp(7.3049974),
            "alpha": 0.3526596,
            "beta": 0.3526596,
            "R_D": 15.387756,
            "R_N": 5.309743,
        },
        design={"num_params": (1e7, 1e10), "data_seen": (1e9, 1e12), "data_unique": (1e8, 1e11)},
    )
)
