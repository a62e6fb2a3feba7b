"""Experiments before they are paid for: what planned cells would identify, and which cells to run next.

Near the truth a fit's parameters have the covariance (Jᵀ W J)^-1, with J the derivative of log y and W = 1 / noise². A
design is judged by it at assumed parameters, and cells are chosen to shrink what matters: the prediction at a target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, assert_never, get_args

import numpy as np

from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import differentiate, evaluate
from analysis.fitting.notices import CONDITION_LIMIT, Notice, check_design
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from scaling.store.columns import TRAINING_FLOPS

if TYPE_CHECKING:
    import pandas as pd

NOISE = 0.005  # of log loss: seeds of healthy language models differ by 0.03 to 1 %, robustly 0.5 % (SCIENCE 0.6)
Method = Literal["v", "d", "greedy"]
MODES = 32  # resamples of a fit over which a choice is averaged, so that it does not hang on one guess of the truth
RATIOS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)  # D/N of the default candidates, times that of the target
COST_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIZES = 16  # of the default candidates


@dataclass(frozen=True)
class Assessment:
    """What a set of cells would identify.

    Attributes:
      rank: Directions in parameter space that the cells determine.
      parameters: How many there are.
      condition: Condition number of JᵀWJ in (log coefficients, non-linear parameters); infinite where singular.
      sd: Standard deviation of each parameter that the cells would give.
      target_sd: Standard deviation of log y at the target; None without one.
      optimum_sd: Standard deviation of log N* at the target's budget, for laws of N and D with derived exponents.
      notices: Coded warnings with remedies.
    """

    rank: int
    parameters: int
    condition: float
    sd: dict[str, float]
    target_sd: float | None
    optimum_sd: float | None
    notices: tuple[Notice, ...]

    @property
    def is_identified(self) -> bool:
        """Returns whether the cells determine every parameter."""
        return self.rank == self.parameters and self.condition < CONDITION_LIMIT

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value:.3g}" for name, value in self.sd.items())
        lines = [f"rank {self.rank} of {self.parameters}, condition {self.condition:.2g}; sd of {parts}"]
        if self.target_sd is not None:
            lines.append(f"sd of log y at the target {self.target_sd:.4g}")
        if self.optimum_sd is not None:
            lines.append(f"95 % interval of N* a factor of {np.exp(1.96 * self.optimum_sd):.3g} to either side")
        return "\n".join([*lines, *map(str, self.notices)])


def assess(
    law: str | Law,
    params: Mapping[str, float],
    cells: Mapping[str, Any],
    *,
    noise: float | Array = NOISE,
    target: Mapping[str, float] | None = None,
    target_flops: float | None = None,
) -> Assessment:
    """Returns what planned cells would identify, by the delta method at assumed parameters.

    Args:
      law: The law that will be fitted.
      params: Assumed parameters; those of a fit, or published ones.
      cells: The law's variables, `[n]` each.
      noise: Standard deviation of log y of a run, or one for each cell.
      target: Where a prediction is wanted.
      target_flops: Budget whose optimal N is wanted, for a law of `num_params` and `data_seen`.

    Raises:
      AnalysisError: if a parameter or column is missing, or the noise is not positive.

    >>> sizes = {"num_params": np.repeat([5e7, 5e8, 5e9], 3)}
    >>> cells = {**sizes, "data_seen": sizes["num_params"] * np.tile([5.0, 20.0, 80.0], 3)}
    >>> truth = {"E": 1.8172, "A": 477.83, "B": 2143.4, "alpha": 0.34731, "beta": 0.36717}
    >>> found = assess("chinchilla", truth, cells, target={"num_params": 7e10, "data_seen": 1.4e12})
    >>> found.is_identified, round(found.sd["alpha"], 3), round(found.target_sd, 4)
    (True, 0.028, 0.0083)
    """
    law = get_law(law)
    vector, arrays = _read_params(law, params), law.read(cells)
    weights = _read_noise(noise, len(arrays[0])) ** -2.0
    gradient = _log_gradient(law, arrays, vector)
    part = gradient * np.sqrt(weights)[:, None]
    sizes = np.linalg.svd(part, compute_uv=False)
    rank = int((sizes > 1e-8 * sizes.max(initial=0.0)).sum())
    smallest = sizes.min() if len(sizes) == len(vector) else 0.0
    condition = float((sizes.max() / smallest) ** 2) if smallest > 0 else np.inf
    inverse = np.linalg.pinv(part, rcond=1e-14)
    covariance = inverse @ inverse.T
    unit = _units(law, vector)
    sd = dict(zip(law.params, (np.sqrt(np.diag(covariance)) * unit).tolist(), strict=True))
    target_sd = None
    if target is not None:
        slope = _log_gradient(law, law.read({name: [value] for name, value in target.items()}), vector)[0]
        target_sd = float(np.sqrt(slope @ covariance @ slope))
    optimum_sd = None
    if target_flops is not None:
        slope = _optimum_gradient(law, vector, target_flops)
        optimum_sd = float(np.sqrt(slope @ covariance @ slope))
    notices = check_design(law, dict(zip(law.variables, arrays, strict=True)))
    if rank < len(vector) or condition > CONDITION_LIMIT:
        text = (
            f"the cells determine {rank} of {len(vector)} parameters (condition {condition:.1e}); vary the variables "
            "independently: three values of D/N over a decade for each of three sizes"
        )
        notices.append(Notice(code="not_identified", text=text, is_weak=True))
    return Assessment(rank, len(vector), condition, sd, target_sd, optimum_sd, tuple(notices))


def choose_cells(
    law: str | Law,
    draws: Array,
    present: Mapping[str, Any] | Array,
    candidates: Mapping[str, Any],
    cost: Array,
    budget: float,
    *,
    target: Mapping[str, float],
    noise: float = NOISE,
    method: Method = "v",
    count: int | None = None,
) -> pd.DataFrame:
    """Returns the candidates to run next, in order, until the budget is spent: a greedy choice.

    `v` takes the candidate that shrinks the variance of log y at the target most for a power of its cost, and of the
    powers in `COST_POWERS` the one that ends surest: the whole cost would buy crumbs, none of it a few giants. `d`
    takes the one that adds most to log det(JᵀWJ) for the root of its cost, `greedy` what helps most at any cost. Each
    criterion is averaged over the parameter vectors in `draws`, which makes it robust to a wrong first guess.

    Args:
      law: The law.
      draws: Parameter vectors `[M, p]` that are plausible: resamples of a fit, or one guess.
      present: Cells that were run (columns may be empty), or what they told: the inverse covariance `[p, p]` of (log
        coefficients, non-linear parameters).
      candidates: Cells that could be; each can be chosen more than once.
      cost: Of each candidate, `[n]`, in the units of the budget: FLOPs, dollars, hours.
      budget: To spend.
      target: Where the prediction matters.
      noise: Standard deviation of log y.
      method: See above.
      count: At most so many cells.

    Raises:
      AnalysisError: on an unknown method, or no candidate within the budget.
    """
    import pandas as pd

    if method not in get_args(Method):
        raise suggest_name("method", method, get_args(Method))
    law = get_law(law)
    pool, cost = law.read(candidates), np.asarray(cost, dtype=np.float64)
    if not (budget > 0 and (cost <= budget).any()):
        raise AnalysisError(
            f"budget={budget:g} buys none of the {len(cost)} candidates, of which the cheapest costs {cost.min():g}; "
            "raise the budget, or give smaller candidates"
        )
    aim = law.read({name: [value] for name, value in target.items()})
    rows = np.stack([_log_gradient(law, pool, vector) for vector in draws]) / noise  # [M, n, p]
    goal = np.stack([_log_gradient(law, aim, vector)[0] for vector in draws])  # [M, p]
    p = rows.shape[2]
    # A faint prior (every log parameter known to a factor of e^100) makes the first choices finite
    information = np.broadcast_to(np.eye(p) * 1e-4, (len(draws), p, p)).copy()
    if isinstance(present, np.ndarray):
        information = information + present
    elif len(next(iter(present.values()))):
        own = np.stack([_log_gradient(law, law.read(present), vector) for vector in draws]) / noise
        information = information + np.swapaxes(own, 1, 2) @ own
    powers: tuple[float, ...]
    match method:
        case "v":
            powers = COST_POWERS
        case "d":
            powers = (0.5,)
        case "greedy":
            powers = (0.0,)
        case _:
            assert_never(method)
    tries = [
        _choose_greedily(rows, goal, np.linalg.inv(information), cost, budget, count, power, method == "d")
        for power in powers
    ]
    chosen = min(tries, key=lambda choices: choices[-1][3])
    order = [index for index, *_ in chosen]
    return pd.DataFrame(
        {
            **{name: array[order] for name, array in zip(law.variables, pool, strict=True)},
            "cost": cost[order],
            "gain": [gain for _, gain, *_ in chosen],
            "cumulative_cost": [spent for *_, spent, _ in chosen],
            "sd_after": [after for *_, after in chosen],
        }
    )


def _choose_greedily(
    rows: Array, goal: Array, inverse: Array, cost: Array, budget: float, count: int | None, power: float, by_det: bool
) -> list[tuple[int, float, float, float]]:
    """Returns (candidate, gain, cost so far, sd at the target) of each choice, by gain over cost to a power."""
    spent, chosen = 0.0, list[tuple[int, float, float, float]]()
    while count is None or len(chosen) < count:
        affordable = cost <= budget - spent
        if not affordable.any():
            break
        # Sherman & Morrison: what one more row takes off the variance at the target, and adds to log det
        moved = rows @ inverse  # [M, n, p]
        grown = 1 + (moved * rows).sum(-1)  # [M, n]
        before = np.einsum("mp,mpq,mq->m", goal, inverse, goal)
        drop = np.einsum("mnp,mp->mn", moved, goal) ** 2 / grown
        value = np.log(grown) if by_det else -np.log1p(-np.minimum(drop / before[:, None], 1 - 1e-12))
        gain = value.mean(axis=0)
        best = int(np.where(affordable, gain / cost**power, -np.inf).argmax())
        step = moved[:, best]
        inverse = inverse - step[:, :, None] * step[:, None, :] / grown[:, best, None, None]
        spent += float(cost[best])
        after = float(np.sqrt(np.median(np.einsum("mp,mpq,mq->m", goal, inverse, goal))))
        chosen.append((best, float(gain[best]), spent, after))
    return chosen


def suggest_cells(
    fit: Fit,
    *,
    target_flops: float,
    budget_flops: float,
    candidates: Mapping[str, Any] | None = None,
    noise: float | None = None,
    method: Method = "v",
    count: int | None = 20,
) -> pd.DataFrame:
    """Returns the next cells, per FLOP, for the loss at the compute-optimal point of a target budget.

    Columns: `num_params data_seen train_flops gain cumulative_flops sd_after`, `sd_after` being the standard deviation
    of log loss at the target once the cells up to there are run. The design so far enters by the fit's own covariance.

    Args:
      fit: Of a law of `num_params` and `data_seen`; with resamples, the choice is averaged over some of them.
      target_flops: The budget that matters.
      budget_flops: What may be spent on new cells.
      candidates: `num_params` and `data_seen`, `[n]`; by default sizes over the fitted range and up to what the budget
        buys, at an eighth to eight times the target's D/N.
      noise: Standard deviation of log loss; by default the fit's residuals'.
      method: As in `choose_cells`.
      count: At most so many cells.

    Raises:
      AnalysisError: if the law is of other variables, or the budgets are not positive.
    """
    from analysis.decisions.optimum import find_optimum

    law = fit.form
    if law.variables != ("num_params", "data_seen"):
        raise AnalysisError(f"law={fit.law} has variables {law.variables!r}; suggestions need num_params and data_seen")
    if not (np.isfinite([target_flops, budget_flops]).all() and target_flops > 0 and budget_flops > 0):
        raise AnalysisError(f"target={target_flops:g} and budget={budget_flops:g} must be positive and finite")
    best = find_optimum(fit.model_copy(update={"draws": ()}), flops=target_flops)
    target = {name: best[name].value for name in law.variables}
    if candidates is None:
        low, high = fit.ranges["num_params"]
        ratios = np.array(RATIOS) * target["data_seen"] / target["num_params"]
        high = max(high, np.sqrt(budget_flops / (TRAINING_FLOPS * min(ratios))))
        N, ratio = (part.ravel() for part in np.meshgrid(np.geomspace(low, high, SIZES), ratios, indexing="ij"))
        candidates = {"num_params": N, "data_seen": N * ratio}
    pool = {name: np.asarray(candidates[name], dtype=np.float64) for name in law.variables}
    flops = TRAINING_FLOPS * pool["num_params"] * pool["data_seen"]
    # residuals of `mse` are in units of y: near the target a step of log y is that over y
    scale = 1.0 if fit.objective.is_log else abs(float(fit.predict({name: [x] for name, x in target.items()})[0]))
    sd = noise if noise is not None else ((fit.residual_sd or 0.0) / scale or NOISE)
    vectors = fit.replicates[:: max(1, len(fit.draws) // MODES)][:MODES] if fit.draws else fit.vector[None]
    cells = choose_cells(
        law, vectors, _information(fit), pool, flops, budget_flops, target=target, noise=sd, method=method, count=count
    )
    return cells.rename(columns={"cost": "train_flops", "cumulative_cost": "cumulative_flops"})


def _information(fit: Fit) -> Array:
    """Returns the inverse covariance of (log coefficients, non-linear parameters) that a fit holds; 0 where unknown."""
    unit, covariance = _units(fit.form, fit.vector), np.array(fit.covariance, dtype=np.float64)
    known = np.isfinite(np.diag(covariance)) & (np.diag(covariance) > 0)
    inverse = np.zeros(covariance.shape)
    part = (covariance / np.outer(unit, unit))[np.ix_(known, known)]
    inverse[np.ix_(known, known)] = np.linalg.pinv(part, rcond=1e-12, hermitian=True)
    return inverse


def _read_params(law: Law, params: Mapping[str, float]) -> Array:
    for name in law.params:
        if name not in params:
            raise suggest_name(f"law {law.name} needs an assumed value of every parameter: parameter", name, params)
    return np.array([float(params[name]) for name in law.params])


def _read_noise(noise: float | Array, count: int) -> Array:
    values = np.broadcast_to(np.asarray(noise, dtype=np.float64), (count,))
    if not (np.isfinite(values) & (values > 0)).all():
        raise AnalysisError(f"noise={values.min():g} must be positive; 0.005 is usual for log loss")
    return values


def _units(law: Law, vector: Array) -> Array:
    """Returns what turns steps in (log coefficients, non-linear parameters) into steps of the parameters."""
    logs = np.r_[np.ones(len(law.linear), bool), [item.log for item in law.ranges.values()]].astype(bool)
    return np.where(logs & (vector != 0), np.abs(vector), 1.0)


def _log_gradient(law: Law, arrays: Sequence[Array], vector: Array) -> Array:
    """Returns the derivative `[n, p]` of log y by log coefficients and non-linear parameters."""
    return differentiate(law, arrays, vector, is_log=True) * _units(law, vector)


def _optimum_gradient(law: Law, vector: Array, flops: float) -> Array:
    """Returns the derivative `[p]` of log N* at a budget by log coefficients and non-linear parameters."""
    from analysis.decisions.allocation import allocate

    step = 1e-4 * np.maximum(np.abs(vector), 1e-6)
    shifted = np.concatenate([vector + np.diag(step), vector - np.diag(step)])
    if not np.isfinite(evaluate(law, [np.array([1e9]), np.array([1e11])], vector)).all():
        raise AnalysisError(f"law={law.name} is not finite at its assumed parameters; give others")
    sizes = np.log(allocate(law, shifted, flops=flops).num_params)
    return (sizes[: len(vector)] - sizes[len(vector) :]) / (2 * step) * _units(law, vector)
