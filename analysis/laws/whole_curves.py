"""Laws of the whole loss curve: the loss at every step of a run from its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.laws.law import Array, Law, Range, register
from analysis.laws.maths import decay
from analysis.laws.schedules import Curve, Progress, summarise_schedules

BLOCK = 500_000  # nodes × parameter sets in memory at once: 4 MB an array


@dataclass(frozen=True, eq=False)
class CurveLaw(Law):
    """A law whose one variable, `schedule`, is the `Progress` of points (or the curves that they lie on)."""

    def read(self, columns: Mapping[str, Any]) -> list[Any]:
        """Returns the points' `Progress` in a list, as the solver takes a law's variables.

        Raises:
          AnalysisError: if the variable is missing or of another type.
        """
        (name,) = self.variables
        if name not in columns:
            raise AnalysisError(
                f"{name} is missing: law {self.name} describes curves under their schedules, which no table's column "
                "holds; use analysis.fit_curves"
            )
        value = columns[name]
        if isinstance(value, Curve):
            value = [value]
        if isinstance(value, Sequence) and value and all(isinstance(item, Curve) for item in value):
            value = summarise_schedules(value)
        if not isinstance(value, Progress):
            raise AnalysisError(
                f"{name} is a {type(value).__name__} but law {self.name} needs whole schedules; give curves: "
                "fit_curves([Curve(rates, steps, loss), …])"
            )
        return [value]


def sum_nodes(at: Progress, weigh: Any, *params: Any) -> Array:
    """Returns `sum over a point's nodes of drop × weigh(progress, *params)`, `[..., n]` for params `[..., 1]`."""
    shaped = np.broadcast_arrays(*[np.asarray(item, dtype=np.float64) for item in params])
    lead = shaped[0].shape[:-1]
    flat = [item.reshape(-1, 1) for item in shaped]
    total = np.empty((len(flat[0]), len(at.area)))
    size = max(1, BLOCK // len(at.drop))
    for begin in range(0, len(total), size):
        rows = slice(begin, begin + size)
        total[rows] = np.add.reduceat(at.drop * weigh(at, *[item[rows] for item in flat]), at.first, axis=-1)
    return total.reshape(*lead, len(at.area))


def _saturate(at: Progress, C: Array, beta: Array, gamma: Array) -> Array:
    """Returns G = 1 - (C eta_k^-gamma S_k(t) + 1)^-beta at every node: how much of a drop has turned into loss."""
    x = np.exp(at.log_area - gamma * at.log_rate)
    return -np.expm1(-beta * np.log1p(C * x))


def _remember(at: Progress, lam: Array) -> Array:
    """Returns (1 - lambda^age) / (1 - lambda) at every node: the sum of lambda^(i-k) over the steps since a drop."""
    return np.expm1(at.age * np.log(lam)) / (lam - 1)


multi_power = register(
    CurveLaw(
        name="multi_power",
        formula="L(t) = L0 + A S1(t)^-alpha - B sum_k (eta_(k-1) - eta_k) (1 - (C eta_k^-gamma S_k(t) + 1)^-beta)",
        source="Luo et al. 2025, arXiv 2503.12811; the warm-up's rises are in the sum",
        variables=("schedule",),
        linear=("L0", "A", "B"),
        nonlinear={
            "alpha": (1e-2, 2.0),
            "C": Range(1e-2, 1e3, log=True),
            "beta": (1e-2, 2.0),
            "gamma": (0.0, 2.0),
        },
        terms=lambda at, alpha, C, beta, gamma: (
            1.0,
            decay(at.area, alpha),
            -sum_nodes(at, _saturate, C, beta, gamma),
        ),
        units={"L0": "nats", "loss": "nats", "B": "nats per unit of learning rate"},
        example={
            "L0": 3.0405, "A": 0.5247, "B": 363.79, "alpha": 0.5079, "C": 2.0656, "beta": 0.5828, "gamma": 0.6414,
        },
    )
)  # fmt: skip

tissue = register(
    CurveLaw(
        name="tissue",
        formula="L(t) = L0 + A S1(t)^-alpha - C sum_(i<=t) sum_(k<=i) (eta_(k-1) - eta_k) lambda^(i-k)",
        source="Tissue et al. 2024, arXiv 2408.11029",
        variables=("schedule",),
        linear=("L0", "A", "C"),
        nonlinear={"alpha": (1e-2, 2.0), "forget": Range(1e-5, 0.1, log=True)},
        terms=lambda at, alpha, forget: (1.0, decay(at.area, alpha), -sum_nodes(at, _remember, 1.0 - forget)),
        derived=lambda params: {"lambda": 1.0 - params["forget"]},
        units={"L0": "nats", "loss": "nats", "forget": "1 - lambda, per step"},
        example={"L0": 2.9, "A": 0.6, "C": 0.5, "alpha": 0.5, "forget": 1e-3},
    )
)
