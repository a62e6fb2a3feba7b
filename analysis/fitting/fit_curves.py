"""Laws of the whole loss curve: the loss at every step of a run from its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import ARRIVED, check_points, describe
from analysis.fitting.objective import Objective, make_objective
from analysis.fitting.solver import EXACT, Problem
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from analysis.laws.schedules import FINENESS, Curve, summarise_schedules
from analysis.laws.whole_curves import CurveLaw
from scaling.specs.fits import DELTA

# On Luo et al.'s three training curves the search on 100 points ends where one on all 437 with 100 starts does.
THINNED, STARTS, FINALISTS = 100, 8, 4
SHAPE = {"beta": 0.59, "gamma": 0.65}  # multi_power at 25 M and at 100 M parameters: .583 and .598, .641 and .655


def fit_curves(
    curves: Sequence[Curve],
    law: str | Law = "multi_power",
    *,
    objective: str | Objective | None = None,
    delta: float = DELTA,
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

    >>> from analysis.laws.schedules import make_rates
    >>> from analysis.laws.whole_curves import tissue
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
      rates: Learning rate of every step, warm-up included, `[T]`; see `analysis.laws.schedules.make_rates`.
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
