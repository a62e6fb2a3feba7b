"""Laws of the whole loss curve: the loss at every step of a run from its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.fits import Fit
from analysis.fitting import ARRIVED, check_points, describe
from analysis.laws.law import Array, Law, Range, get_law, register
from analysis.laws.maths import decay
from analysis.objective import Objective, make_objective
from analysis.schedules import FINENESS, Curve, Progress, summarise_schedules
from analysis.solver import EXACT, Problem

BLOCK = 500_000  # nodes × parameter sets in memory at once: 4 MB an array
# On Luo et al.'s three training curves the search on 100 points ends where one on all 437 with 100 starts does.
THINNED, STARTS, FINALISTS = 100, 8, 4
SHAPE = {"beta": 0.59, "gamma": 0.65}  # multi_power at 25 M and at 100 M parameters: .583 and .598, .641 and .655


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
                "holds; use analysis.curves.fit_curves"
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


def fit_curves(
    curves: Sequence[Curve],
    law: str | Law = "multi_power",
    *,
    objective: str | Objective | None = None,
    delta: float = 1e-3,
    hold: Mapping[str, float] | None = None,
    label: str | None = None,
) -> Fit:
    """Returns the law of these runs' loss under their schedules; all points of all curves count alike.

    As `fit_law`, but the wide search sees some hundred of the points, and only its best ends are refined on all.

    Few schedules hardly identify the shape of `multi_power`'s drops: on three of them the optimum fits those better
    than the published parameters and predicts others worse. Hold what is known, such as `SHAPE`, and judge by schedules
    that were left out. The Gauss-Newton intervals treat points as independent, which neighbours on a curve are not:
    they are too narrow, and the fit's conventions say so.

    Args:
      curves: Runs with losses.
      law: `multi_power`, `tissue`, or a `CurveLaw`.
      objective: As in `fit_law`.
      delta: As in `fit_law`.
      hold: Parameters to fix, by name.
      label: What the fit is called.

    Raises:
      AnalysisError: if a curve has no loss, the law is of another kind, or as in `fit_law`.

    >>> from analysis.schedules import make_rates
    >>> rates = [make_rates("cosine", T, peak=1e-3, end=1e-4, warmup_steps=50) for T in (1000, 4000)]
    >>> blank = [Curve(item, np.arange(100, len(item), 50)) for item in rates]
    >>> truth = {"L0": 2.0, "A": 0.5, "C": 0.4, "alpha": 0.5, "forget": 2e-3}
    >>> runs = [Curve(run.rates, run.steps, tissue.predict(truth, {"schedule": run})) for run in blank]
    >>> {name: round(value, 5) for name, value in fit_curves(runs, "tissue").params.items()}
    {'L0': 2.0, 'A': 0.5, 'C': 0.4, 'alpha': 0.5, 'forget': 0.002}
    """
    law = get_law(law).hold(hold or {})
    if not isinstance(law, CurveLaw):
        raise AnalysisError(
            f"law={law.name!r} does not describe a curve under its schedule; choose multi_power or tissue"
        )
    if not curves:
        raise AnalysisError("curves=[] is empty; give at least one run with its rates, steps and loss")
    goal = make_objective(objective or law.objective, delta)
    stride = max(1, sum(len(curve.steps) for curve in curves) // THINNED)
    thin, weights, y = _pose(law, [_thin(curve, stride) for curve in curves], goal, fineness=2 * FINENESS)
    starts = thin.scan(y, weights, keep=STARTS)
    if not len(starts):
        raise AnalysisError(f"law {law.name} is finite nowhere in its bounds on these curves; check rates and steps")
    found = thin.refine(starts, y, weights, first=0.01)
    order = np.argsort(found.value, kind="stable")
    share = float((found.value <= found.value[order[0]] * (1 + ARRIVED) + EXACT).mean())
    best = thin.unscale(found.z[order])
    distinct = [i for i in range(len(best)) if not any(np.allclose(best[i], best[j], rtol=1e-3) for j in range(i))]
    whole, weights, y = _pose(law, curves, goal)
    ends = whole.refine(whole.rescale(best[distinct[:FINALISTS]]), y, weights, first=0.01)
    winner = int(np.argmin(ends.value))
    return describe(
        law,
        whole.columns,
        y,
        whole.unscale(ends.z[winner : winner + 1])[0],
        weights=weights,
        objective=goal,
        converged=bool(ends.converged[winner]),
        bounds=(whole.low, whole.high, whole.logs),
        gradient=float(ends.gradient[winner]),
        starts={"count": len(starts), "arrived": share},
        label=label,
        target=law.target,
        dropped=0,
        conventions={
            "residual": goal.residual,
            "aggregation": "sum over the points of all curves, no fitted scale",
            "uncertainty": "Gauss-Newton on correlated points of curves: intervals are too narrow",
            "warm-up": "its rises of the rate count as negative drops",
            "curves": ", ".join(curve.name for curve in curves),
        },
        table_sha256=None,
    )


def _thin(curve: Curve, stride: int) -> Curve:
    """Returns every `stride`-th point of a curve, its last one among them."""
    kept = np.arange(len(curve.steps) - 1, -1, -stride)[::-1]
    return Curve(curve.rates, curve.steps[kept], None if curve.loss is None else curve.loss[kept], curve.name)


def _pose(
    law: CurveLaw, curves: Sequence[Curve], goal: Objective, fineness: float = FINENESS
) -> tuple[Problem, Array, Array]:
    """Returns the solver's problem of these curves, the weights `[n]` and the losses `[n]`."""
    losses = []
    for curve in curves:
        if curve.loss is None:
            raise AnalysisError(f"{curve.name}: loss is missing; a fit needs the loss at every one of its steps")
        losses.append(curve.loss)
    y, weights = np.concatenate(losses), np.ones(sum(map(len, losses)))
    at: list[Any] = [summarise_schedules(curves, fineness=fineness)]
    check_points(law, at, y, weights, goal)
    return Problem(law, at, y, goal), weights, y


def predict_curve(fit: Fit, rates: Array, steps: Array | None = None) -> Array:
    """Returns the fitted law's loss `[n]` under another schedule.

    Args:
      fit: A fit of `fit_curves`.
      rates: Learning rate of every step, warm-up included, `[T]`; see `analysis.schedules.make_rates`.
      steps: Steps, counted from 0, `[n]`; by default the last one alone.
    """
    wanted = np.array([len(rates) - 1]) if steps is None else np.asarray(steps)
    return fit.predict({fit.columns[0]: Curve(rates, wanted)})


def score_curve(fitted: Array, loss: Array) -> dict[str, float]:
    """Returns how well a curve is predicted: `r2`, mean and worst absolute error, and the last point's.

    >>> score_curve(np.array([3.0, 2.0, 1.1]), np.array([3.0, 2.0, 1.0]))["r2"]
    0.995
    """
    fitted, loss = np.asarray(fitted, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    error = fitted - loss
    return {
        "r2": round(float(1 - (error**2).sum() / ((loss - loss.mean()) ** 2).sum()), 12),
        "mean": float(np.abs(error).mean()),
        "worst": float(np.abs(error).max()),
        "last": float(abs(error[-1])),
    }
