"""Learning curves with breaks: plateau, power law and floor (`regions`), broken power laws, and Zhai's two plateaus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.laws.law import EXPONENT, Law, Range, register
from analysis.laws.maths import decay, exp, expm1, log, softplus


def _regions_terms(m: Any, m0: Any, c: Any, f: Any) -> tuple[Any, ...]:
    fall = -c * f * softplus((log(m) - log(m0)) / f)
    return -expm1(fall), exp(fall)


def _regions_ends(params: Mapping[str, Any]) -> dict[str, Any]:
    gamma, eps0 = params["gamma"], params["eps0"]
    return {"m_inf": params["m0"] * ((eps0 - gamma) / gamma) ** (1 / params["c"])}


regions = register(
    Law(
        name="regions",
        formula="eps = gamma + (eps0 - gamma) (1 + (m/m0)^(1/f))^(-c f); m_inf: where the power term equals gamma",
        source="Hestness et al. 2017, arXiv 1712.00409 (the three regions); form of Caballero et al., arXiv 2210.14891",
        variables=("data_unique",),
        linear=("gamma", "eps0"),
        nonlinear={
            "m0": Range(0.3, 1.0, log=True, of="data_unique"),
            "c": EXPONENT,
            "f": Range(0.05, 2.0, log=True),
        },
        terms=_regions_terms,
        target="error",
        derived=_regions_ends,
        units={"data_unique": "examples", "m0": "examples", "m_inf": "examples"},
        example={"gamma": 0.05, "eps0": 0.9, "m0": 500.0, "c": 0.4, "f": 0.3},  # plausible
        design={"data_unique": (1e1, 1e7)},
    )
)


def make_bnsl(n: int, name: str, example: Mapping[str, float], design: tuple[float, float] = (1e1, 1e7)) -> Law:
    """Returns the broken neural scaling law with n breaks.

    y = a + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i): the slope in log-log goes from -c0 to -(c0 + c_1) around
    d_1, the sooner the smaller f_1, and so on. c_i below 0 makes a curve flatter. 3 n + 3 parameters: with fewer than
    two points for each, or none beyond the last break, the breaks are not identified.

    Args:
      n: Number of breaks.
      name: Of the law.
      example: Parameters for samples.
      design: Smallest and largest x of samples.
    """

    def terms(x: Any, c0: Any, *breaks: Any) -> tuple[Any, ...]:
        fall = c0 * log(x)
        for i in range(n):
            c, d, f = breaks[3 * i : 3 * i + 3]
            fall = fall + c * f * softplus((log(x) - log(d)) / f)
        return 1.0, exp(-fall)

    nonlinear: dict[str, Range | tuple[float, float]] = {"c0": (0.0, 2.0)}
    for i in range(1, n + 1):
        nonlinear[f"c{i}"] = (-1.0, 3.0)
        nonlinear[f"d{i}"] = Range(0.99, 1.0, log=True, of="data_unique")
        nonlinear[f"f{i}"] = Range(0.05, 2.0, log=True)
    return Law(
        name=name,
        formula="y = a + b x^-c0 " + " ".join(f"(1 + (x/d{i})^(1/f{i}))^(-c{i} f{i})" for i in range(1, n + 1)),
        source="Caballero et al. 2022, arXiv 2210.14891",
        variables=("data_unique",),
        linear=("a", "b"),
        nonlinear=nonlinear,
        terms=terms,
        objective="log_mse",
        units={f"d{i}": "as data_unique" for i in range(1, n + 1)},
        example=example,
        design={"data_unique": design},
    )


# plausible parameters, none published
_ONE = {"a": 0.02, "b": 1.0, "c0": 0.05, "c1": 0.4, "d1": 1e3, "f1": 0.3}
_TWO = {**_ONE, "c2": -0.3, "d2": 5e4, "f2": 0.3}
bnsl = register(make_bnsl(1, "bnsl", _ONE))
bnsl2 = register(make_bnsl(2, "bnsl2", _TWO))
bnsl3 = register(make_bnsl(3, "bnsl3", {**_TWO, "c3": 0.5, "d3": 1e6, "f3": 0.3}))

zhai = register(
    Law(
        name="zhai",
        formula="E = c + a (C + d)^-b",
        source="Zhai et al. 2021, arXiv 2106.04560",
        variables=("train_flops",),
        linear=("c", "a"),
        nonlinear={"b": EXPONENT, "d": Range(1e-3, 1.0, log=True, of="train_flops")},
        terms=lambda C, b, d: (1.0, decay(C + d, b)),
        target="error",
        derived=lambda p: {"E_0": p["c"] + p["a"] * p["d"] ** -p["b"]},
        units={"train_flops": "any unit of compute; d has the same", "E_0": "error without any compute"},
        # their ImageNet fit as remembered (not verified), in thousands of TPUv3 core-days
        example={"c": 0.09, "a": 0.26, "b": 0.35, "d": 0.01},
        design={"train_flops": (1e-3, 1e2)},
    )
)
