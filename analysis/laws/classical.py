"""The sixteen learning-curve forms of LCDB: accuracy of classical learners against training examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis.laws.law import EXPONENT, Law, Range, register
from analysis.laws.maths import decay, exp, grow, log, sigmoid

SOURCE = "Mohr & Viering 2022 (LCDB), forms of fit_database.py"
RATE = Range(1e-8, 1.0, log=True)  # of e^(-b x), per example
SCALE = Range(1e-3, 10.0, log=True, of="data_unique")  # x0 of (x/x0)^d
PLACE = Range(0.99, 1.0, log=True, of="data_unique")
STRETCH = (0.02, 3.0)


def _add(
    form: str,
    formula: str,
    linear: Sequence[str],
    terms: Callable[..., Any],
    example: Mapping[str, float],
    *,
    nonlinear: Mapping[str, Range | tuple[float, float]] | None = None,
    design: tuple[float, float] = (16.0, 1e5),
    **fields: Any,
) -> Law:
    """Returns `lcdb_<form>` after registering it; every coefficient may be negative, as in LCDB's own fits."""
    return register(
        Law(
            name=f"lcdb_{form}",
            formula=f"y = {formula}",
            source=SOURCE,
            variables=("data_unique",),
            linear=tuple(linear),
            nonlinear=nonlinear or {},
            terms=terms,
            **{"signed": tuple(linear), **fields},
            target="accuracy",
            objective="mse",
            units={"data_unique": "examples", "accuracy": "share of right answers"},
            example=example,  # plausible parameters, none published
            design={"data_unique": design},
        )
    )


# LCDB's last1 repeats the accuracy at the last anchor; fitted to several points it is their mean.
last1 = _add("last1", "a", ["a"], lambda x: (1.0,), {"a": 0.8})
pow2 = _add(
    "pow2", "-a x^-b", ["a"], lambda x, b: (-decay(x, b),), {"a": -0.5, "b": -0.04}, nonlinear={"b": (-1.0, 3.0)}
)
log2 = _add("log2", "-a ln(x) + b", ["a", "b"], lambda x: (-log(x), 1.0), {"a": -0.04, "b": 0.4})
# A rising accuracy needs b < 0 here; what falls by more than 1e-3 an example is no learning curve.
exp2 = _add(
    "exp2", "a e^(-b x)", ["a"], lambda x, b: (exp(-b * x),), {"a": 0.6, "b": -2e-6}, nonlinear={"b": (-1e-3, 1e-3)}
)
lin2 = _add("lin2", "a x + b", ["a", "b"], lambda x: (x, 1.0), {"a": 2e-6, "b": 0.6})
ilog2 = _add("ilog2", "b - a/ln(x)", ["b", "a"], lambda x: (1.0, -1 / log(x)), {"b": 0.95, "a": 0.8})

pow3 = _add(
    "pow3",
    "a - b x^-c",
    ["a", "b"],
    lambda x, c: (1.0, -decay(x, c)),
    {"a": 0.9, "b": 1.2, "c": 0.4},
    nonlinear={"c": EXPONENT},
)
exp3 = _add(
    "exp3",
    "a e^(-b x) + c",
    ["a", "c"],
    lambda x, b: (exp(-b * x), 1.0),
    {"a": -0.4, "c": 0.9, "b": 1e-3},
    nonlinear={"b": RATE},
)
vap3 = _add(
    "vap3",
    "e^(a + b/x + c ln(x))",
    ["a", "b", "c"],
    lambda x: (1.0, 1 / x, log(x)),
    {"a": -0.4, "b": -5.0, "c": 0.03},
    link=exp,
    unlink=log,
)
# b must stay below the smallest x. With a < 0 accuracy rises towards c - 1.
expp3 = _add(
    "expp3",
    "c - e^((x - b)^a)",
    ["c"],
    lambda x, a, b: (1.0,),
    {"c": 1.95, "a": -0.4, "b": 5.0},
    nonlinear={"a": (-2.0, 0.3), "b": (-1e3, 15.9)},
    offset=lambda x, a, b: -exp(grow(x - b, a)),
)
expd3 = _add(
    "expd3",
    "c - (c - a) e^(-b x)",
    ["c", "a"],
    lambda x, b: (1 - exp(-b * x), exp(-b * x)),
    {"c": 0.9, "a": 0.4, "b": 1e-3},
    nonlinear={"b": RATE},
)
logpower3 = _add(
    "logpower3",
    "a / (1 + (x/e^b)^c)",
    ["a"],
    lambda x, b, c: (sigmoid(-c * (log(x) - b)),),
    {"a": 0.9, "b": 3.0, "c": -0.5},
    nonlinear={"b": (-10.0, 15.0), "c": (-3.0, 3.0)},
)
pow4 = _add(
    "pow4",
    "a - b (x + d)^-c",
    ["a", "b"],
    lambda x, c, d: (1.0, -decay(x + d, c)),
    {"a": 0.9, "b": 3.0, "c": 0.5, "d": 50.0},
    nonlinear={"c": EXPONENT, "d": Range(1e-3, 1.0, log=True, of="data_unique")},
)
# LCDB's b (mmf4) and a (wbl4, exp4) have units x^d and x^-d; x0 has those of x, and they are derived from it.
mmf4 = _add(
    "mmf4",
    "(a b + c x^d) / (b + x^d), b = x0^d",
    ["a", "c"],
    lambda x, x0, d: (sigmoid(d * (log(x0) - log(x))), sigmoid(d * (log(x) - log(x0)))),
    {"a": 0.3, "c": 0.9, "x0": 200.0, "d": 0.8},
    nonlinear={"x0": PLACE, "d": STRETCH},
    derived=lambda p: {"b": p["x0"] ** p["d"]},
)


def _fall(x: Any, x0: Any, d: Any) -> Any:
    return exp(-grow(x / x0, d))


wbl4 = _add(
    "wbl4",
    "c - b e^(-a x^d), a = x0^-d",
    ["c", "b"],
    lambda x, x0, d: (1.0, -_fall(x, x0, d)),
    {"c": 0.9, "b": 0.6, "x0": 200.0, "d": 0.5},
    nonlinear={"x0": SCALE, "d": STRETCH},
    derived=lambda p: {"a": p["x0"] ** -p["d"]},
)
# The same curves as wbl4 with its b = e^b, written as c - e^b + e^b (1 - e^(-a x^d)) to keep e^b above 0.
exp4 = _add(
    "exp4",
    "c - e^(-a x^d + b), a = x0^-d, c = start + e^b",
    ["start", "exp_b"],
    lambda x, x0, d: (1.0, 1 - _fall(x, x0, d)),
    {"start": 0.3, "exp_b": 0.6, "x0": 200.0, "d": 0.5},
    nonlinear={"x0": SCALE, "d": STRETCH},
    signed=("start",),
    derived=lambda p: {"a": p["x0"] ** -p["d"], "b": log(p["exp_b"]), "c": p["start"] + p["exp_b"]},
)
