"""Laws of loss or error against model size N and data D, and the power laws of one variable they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.laws.law import EXPONENT, TARGET, Law, Range, register
from analysis.laws.maths import decay, exp, expm1, grow, log, split_budget
from scaling.store.columns import TRAINING_FLOPS

power = register(
    Law(
        name="power",
        formula="y = A x^-alpha",
        source="Alabdulmohsin et al. 2022, arXiv 2209.06640, M1",
        variables=("data_unique",),
        linear=("A",),
        nonlinear={"alpha": (0.0, 3.0)},
        terms=lambda x, alpha: (decay(x, alpha),),
        example={"A": 5.0, "alpha": 0.3},
        design={"data_unique": (1e2, 1e6)},
    )
)

power_floor = register(
    Law(
        name="power_floor",
        formula="y = E + A x^-alpha",
        source="Hestness et al. 2017, arXiv 1712.00409; Alabdulmohsin et al. 2022, arXiv 2209.06640, M2",
        variables=("data_unique",),
        linear=("E", "A"),
        nonlinear={"alpha": EXPONENT},
        terms=lambda x, alpha: (1.0, decay(x, alpha)),
        example={"E": 0.1, "A": 5.0, "alpha": 0.5},
        design={"data_unique": (1e2, 1e6)},
    )
)


chinchilla = register(
    Law(
        name="chinchilla",
        formula="L = E + A/N^alpha + B/D^beta",
        source="Hoffmann et al. 2022, arXiv 2203.15556",
        variables=("num_params", "data_seen"),
        linear=("E", "A", "B"),
        nonlinear={"alpha": EXPONENT, "beta": EXPONENT},
        terms=lambda N, D, alpha, beta: (1.0, decay(N, alpha), decay(D, beta)),
        derived=split_budget,
        units={"num_params": "parameters", "data_seen": "tokens", "E": "nats", "loss": "nats"},
        example={"E": 1.8172, "A": 477.83, "B": 2143.4, "alpha": 0.34731, "beta": 0.36717},
        design={"num_params": (5e7, 1e10), "data_seen": (1e9, 3e11)},
        has_closed_form=True,
    )
)


def _split_tied(params: Mapping[str, Any]) -> dict[str, Any]:
    return split_budget({**params, "beta": params["alpha"]})


chinchilla_tied = register(
    Law(
        name="chinchilla_tied",
        formula="L = E + A/N^alpha + B/D^alpha",
        source="Muennighoff et al. 2023, arXiv 2305.16264 (Hoffmann et al. 2022 with alpha = beta)",
        variables=("num_params", "data_seen"),
        linear=("E", "A", "B"),
        nonlinear={"alpha": EXPONENT},
        terms=lambda N, D, alpha: (1.0, decay(N, alpha), decay(D, alpha)),
        derived=_split_tied,
        units={"num_params": "parameters", "data_seen": "tokens", "E": "nats", "loss": "nats"},
        # the authors' code on C4, in logarithms a, b, e = 6.255414, 7.3049974, 0.6254804
        example={"E": 1.86914, "A": 520.82, "B": 1487.72, "alpha": 0.3526596},
        design={"num_params": (5e7, 1e10), "data_seen": (1e9, 3e11)},
    )
)


def _unfold_overtrained(params: Mapping[str, Any]) -> dict[str, Any]:
    a, b, eta = (params[name] for name in ("a", "b", "eta"))
    with_six = TRAINING_FLOPS**-eta
    return {"A": a * with_six, "B": b * with_six, "alpha": 2 * eta, "M": (b / a) ** (1 / (2 * eta))}


# M^eta C^-eta = (6 N^2)^-eta and M^-eta C^-eta = (6 D^2)^-eta. Derived: A and B of Chinchilla's form with both
# exponents alpha = 2 eta, and M, the tokens per parameter with the lowest loss, the same for every C.
overtrained = register(
    Law(
        name="overtrained",
        formula="L = E + (a M^eta + b M^-eta) C^-eta, M = D/N, C = 6 N D",
        source="Gadre et al. 2024, arXiv 2403.08540",
        variables=("num_params", "data_seen"),
        linear=("E", "a", "b"),
        nonlinear={"eta": (5e-4, 1.5)},
        terms=lambda N, D, eta: (1.0, decay(TRAINING_FLOPS * N * N, eta), decay(TRAINING_FLOPS * D * D, eta)),
        derived=_unfold_overtrained,
        units={"num_params": "parameters", "data_seen": "tokens", "E": "nats", "loss": "nats"},
        example={"E": 1.5083, "a": 141.3, "b": 189.5, "eta": 0.1212},  # trained on C4, evaluated on C4
        design={"num_params": (1e7, 7e9), "data_seen": (1e9, 1e12)},
    )
)

REFERENCE_PARAMS = 1e9  # where the coefficients of `skaling` and `farseer` are taken, so that they are of order 1
REFERENCE_TOKENS = 1e11


def _skaling_terms(N: Any, D: Any, alpha: Any, beta: Any, k: Any, rho: Any) -> tuple[Any, ...]:
    inner = decay(N / REFERENCE_PARAMS, alpha) + rho * decay(D / REFERENCE_TOKENS, beta)
    return 1.0, grow(inner, k)


def _unfold_skaling(params: Mapping[str, Any]) -> dict[str, Any]:
    alpha, beta, k = (params[name] for name in ("alpha", "beta", "k"))
    return {
        "A": params["A_ref"] * REFERENCE_PARAMS ** (alpha * k),
        "R": params["rho"] * REFERENCE_TOKENS**beta / REFERENCE_PARAMS**alpha,
    }


# The paper's A and R carry units that depend on the exponents and range over tens of decades. A_ref and rho belong to
# N in units of 1e9 and D in units of 1e11 and are of order 1; A and R are derived from them.
skaling = register(
    Law(
        name="skaling",
        formula="L = E + A (N^-alpha + R D^-beta)^k = E + A_ref ((N/1e9)^-alpha + rho (D/1e11)^-beta)^k",
        source="Videau et al. 2026, arXiv 2608.07222",
        variables=("num_params", "data_seen"),
        linear=("E", "A_ref"),
        nonlinear={
            "alpha": (1e-2, 2.0),
            "beta": (1e-2, 2.0),
            "k": Range(0.05, 5.0, log=True),
            "rho": Range(1e-4, 1e4, log=True),
        },
        terms=_skaling_terms,
        derived=_unfold_skaling,
        units={"num_params": "parameters", "data_seen": "tokens", "E": "nats", "loss": "nats"},
        example={"E": 1.8, "A_ref": 0.35, "alpha": 0.5, "beta": 0.55, "k": 0.7, "rho": 0.6},  # plausible, not published
        design={"num_params": (5e7, 1e10), "data_seen": (1e9, 3e11)},
    )
)


def _bend(n: Any, curvature: Any) -> Any:
    """Returns (n^curvature - 1) / curvature, whose slope in log n is 1 at n = 1: Box and Cox's transform."""
    return expm1(curvature * log(n)) / curvature


def _farseer_terms(
    N: Any, D: Any, floor_slope: Any, q: Any, data_slope: Any, b: Any, beta: Any, beta_slope: Any, a: Any
) -> tuple[Any, ...]:
    n, span = N / REFERENCE_PARAMS, log(REFERENCE_TOKENS)
    floor = exp(floor_slope * _bend(n, q))
    power = beta * exp(beta_slope * _bend(n, a))
    tilt = data_slope + beta * beta_slope * span
    return floor, exp(tilt * _bend(n, b) - power * log(D) + beta * span)


def _unfold_farseer(params: Mapping[str, Any]) -> dict[str, Any]:
    q, b, a, beta = (params[name] for name in ("q", "b", "a", "beta"))
    span = log(REFERENCE_TOKENS)
    tilt = params["data_slope"] + beta * params["beta_slope"] * span
    return {
        "s": params["floor_slope"] / (q * REFERENCE_PARAMS**q),
        "S": log(params["floor"]) - params["floor_slope"] / q,
        "B": tilt / (b * REFERENCE_PARAMS**b),
        "Q": log(params["data_term"]) + beta * span - tilt / b,
        "A": params["beta_slope"] / (a * REFERENCE_PARAMS**a),
        "E": log(beta) - params["beta_slope"] / a,
    }


def convert_farseer(
    s: float, q: float, S: float, B: float, b: float, Q: float, A: float, a: float, E: float
) -> dict[str, float]:
    """Returns the parameters of law `farseer` from the paper's constants, `derived` the other way round.

    At N = 1e9 and D = 1e11 the loss is floor + data_term:

    >>> params = convert_farseer(-0.0624655, 0.13, 0.128488, 230.734, -0.1729, -1.54421, -1.66563, 0.0459, 3.13335)
    >>> {name: round(float(params[name]), 4) for name in ("floor", "data_term", "beta")}
    {'floor': 0.4514, 'data_term': 0.0536, 'beta': 0.3077}
    """
    span = log(REFERENCE_TOKENS)
    beta = float(exp(A * REFERENCE_PARAMS**a + E))
    beta_slope = A * a * REFERENCE_PARAMS**a
    tilt = B * b * REFERENCE_PARAMS**b
    return {
        "floor": float(exp(s * REFERENCE_PARAMS**q + S)),
        "data_term": float(exp(B * REFERENCE_PARAMS**b + Q - beta * span)),
        "floor_slope": s * q * REFERENCE_PARAMS**q,
        "q": q,
        "data_slope": float(tilt - beta * beta_slope * span),
        "b": b,
        "beta": beta,
        "beta_slope": beta_slope,
        "a": a,
    }


# The paper's constants are derived. What is fitted is seen at N = 1e9, D = 1e11: the two terms (`floor`, `data_term`),
# the exponent `beta` of D, and the slopes of their logarithms in log N (`floor_slope`, `data_slope`, `beta_slope`).
farseer = register(
    Law(
        name="farseer",
        formula="L = exp(s N^q + S) + exp(B N^b + Q) D^-exp(A N^a + E)",
        source="Li et al. 2025, arXiv 2506.10972",
        variables=("num_params", "data_seen"),
        linear=("floor", "data_term"),
        nonlinear={
            "floor_slope": (-0.6, 0.0),
            "q": (1e-2, 1.0),
            "data_slope": (-1.0, 1.0),
            "b": (-1.0, -1e-2),
            "beta": (0.05, 1.0),
            "beta_slope": (-0.6, 0.0),
            "a": (1e-2, 0.5),
        },
        terms=_farseer_terms,
        derived=_unfold_farseer,
        units={"num_params": "parameters", "data_seen": "tokens", "loss": "bits per character"},
        example=convert_farseer(-0.0624655, 0.13, 0.128488, 230.734, -0.1729, -1.54421, -1.66563, 0.0459, 3.13335),
        design={"num_params": (2e8, 6e9), "data_seen": (2e9, 1e12)},
    )
)


def _unfold_rosenfeld(params: Mapping[str, Any]) -> dict[str, Any]:
    a = params["a"]
    return {"eta": params["eps0"] / a, "b/a": params["b"] / a, "c_inf/a": params["c_inf"] / a}


# a, b, c_inf and eta can be multiplied by one number without changing any prediction. Here eta = eps0, so that far
# below eps0 the error is e itself; derived are eta, b and c_inf of the other common choice, a = 1.
rosenfeld = register(
    Law(
        name="rosenfeld",
        formula="eps = eps0 e / sqrt(e^2 + eta^2), e = a n^-alpha + b m^-beta + c_inf, eta = eps0",
        source="Rosenfeld et al. 2019, arXiv 1909.12673",
        variables=("num_params", "data_unique"),
        linear=("c_inf", "a", "b"),
        nonlinear={"alpha": EXPONENT, "beta": EXPONENT, "eps0": Range(1.0, 10.0, log=True, of=TARGET)},
        terms=lambda m, n, alpha, beta, eps0: (1.0, decay(n, alpha), decay(m, beta)),
        link=lambda e, alpha, beta, eps0: e / (1 + (e / eps0) ** 2) ** 0.5,
        unlink=lambda y, alpha, beta, eps0: y / (1 - (y / eps0) ** 2) ** 0.5,
        target="error",
        objective="log_mse",  # the authors' least squares on (predicted - measured) / measured, to first order
        derived=_unfold_rosenfeld,
        units={"num_params": "parameters", "data_unique": "examples", "eps0": "error of a random guess, 1 - 1/classes"},
        # plausible; the published tables were not verified
        example={"c_inf": 0.03, "a": 60.0, "b": 20.0, "alpha": 0.7, "beta": 0.5, "eps0": 0.9},
        design={"num_params": (1e4, 1e7), "data_unique": (1e2, 1e5)},
    )
)
