"""What to train with a budget: the size, the data and the loss at the optimum of any fitted law of N and D.

Intervals are percentiles over the resamples of the fit, each with its own optimum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from analysis.decisions.allocation import FINITE, Allocation, Line, allocate, check_units
from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import FAR, Notice, check_distance, find_withheld
from analysis.laws.law import Array
from analysis.uncertainty.resampling import read_percentiles
from scaling.store.columns import INFERENCE_FLOPS, TRAINING_FLOPS

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit

MOST_DATA = float(np.log(1e30))  # up to which contours go
MOST_DIGITS = 4  # that a number is shown to
ZERO = 1e-6  # beside the largest of a value and its ends: what rounding left of nothing
MISSING = 1e300  # stands for infinity in percentiles, where inf - inf would be NaN


class Estimate(BaseModel):
    """A number with its 95 % interval; the ends are None where there were no resamples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Returns the interval's ends; the value twice where there is none."""
        return (self.value if self.low is None else self.low), (self.value if self.high is None else self.high)

    def show(self) -> tuple[str, str, str]:
        """Returns value and ends for people, to two digits of the interval's width; ends are empty without one.

        >>> Estimate(value=0.44791, low=0.44142, high=0.45383).show()
        ('0.448', '0.441', '0.454')
        >>> Estimate(value=0.8671, low=-3.8e-28, high=1.9).show()
        ('0.87', '0', '1.9')
        """
        if self.low is None or self.high is None:
            return f"{self.value:.{MOST_DIGITS}g}", "", ""
        width = self.high - self.low
        largest = max((abs(end) for end in (self.low, self.high, self.value) if np.isfinite(end)), default=0.0)
        last = np.floor(np.log10(width)) - 1 if np.isfinite(width) and width > 0 else -np.inf  # the digit that counts

        def write(value: float) -> str:
            if not np.isfinite(value):
                return f"{value:g}"
            if abs(value) <= ZERO * largest:
                return "0"
            digits = np.clip(np.floor(np.log10(abs(value))) - last + 1, 2, MOST_DIGITS)
            return f"{value:.{int(digits)}g}"

        return write(self.value), write(self.low), write(self.high)

    def __str__(self) -> str:
        value, low, high = self.show()
        return f"{value} ({low} to {high})" if low else value


class Optimum(BaseModel):
    """The compute-optimal choice; prints as a table.

    Attributes:
      law: The law's name.
      question: What was asked: the budget or the loss, and what else was given.
      quantities: By name: `num_params`, `data_seen`, `data_per_param`, `loss`, `train_flops`; where asked for also
        `inference_flops`, `total_flops`, `epochs`, `chip_hours`, `dollars`.
      warnings: Coded warnings with remedies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    law: str
    question: dict[str, float]
    quantities: dict[str, Estimate]
    warnings: tuple[Notice, ...] = ()

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.quantities:
            raise suggest_name("quantity", name, self.quantities)
        return self.quantities[name]

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each quantity: `estimate low high`."""
        return frame_estimates(self.quantities, "quantity")

    def __str__(self) -> str:
        asked = ", ".join(f"{name}={value:g}" for name, value in self.question.items())
        import pandas as pd

        rows = {name: item.show() for name, item in self.quantities.items()}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "low", "high"]).to_string()
        return "\n".join([f"optimum of {self.law} at {asked}", table, *map(str, self.warnings)])


def find_optimum(
    fit: Fit,
    *,
    flops: float | None = None,
    loss: float | None = None,
    inference_tokens: float = 0.0,
    unique_data: float | None = None,
    price_per_chip_hour: float | None = None,
    peak_flops: float | None = None,
    mfu: float | None = None,
    at: Mapping[str, float] | None = None,
) -> Optimum:
    """Returns N*, D*, L* and what they cost at a budget, or at the smallest budget that reaches a loss.

    Args:
      fit: Of a law of `num_params` and `data_seen` (or `data_unique`, which is then passed over once); intervals come
        from its `draws`.
      flops: The budget: of training, and of inference where `inference_tokens` are given.
      loss: In place of a budget: the loss to reach at the smallest total of FLOPs.
      inference_tokens: Tokens the model will process in use, at 2 N FLOPs each (Sardana et al. 2024, 2401.00448).
      unique_data: Distinct tokens or examples there are; more is seen by repeating them. A law of `data_unique` says
        what that is worth; for others it is discounted as Muennighoff et al. 2023 (2305.16264) measured. All data are
        new where this is left out.
      price_per_chip_hour: Of one chip, in dollars; needs the next two.
      peak_flops: FLOP/s of one chip; with `mfu` it gives chip-hours.
      mfu: Share of the peak that is reached, of inference too.
      at: Values of the law's other variables.

    Raises:
      AnalysisError: unless exactly one of `flops` and `loss` is given; on values out of range; if the law is not one
        of `num_params` and `data_seen`; if no budget reaches the loss.
    """
    question = _check_question(flops, loss, inference_tokens, unique_data, price_per_chip_hour, peak_flops, mfu)
    check_units(fit)
    law, draws = fit.form, fit.replicates
    if not np.isfinite(fit.vector).all():
        raise AnalysisError(f"fit of {law.name} is {fit.status} and has no parameters ({fit.params}); fit another law")
    params = np.concatenate([fit.vector[None], draws])
    best = allocate(
        law,
        params,
        flops=flops,
        loss=loss,
        inference_tokens=inference_tokens,
        unique_data=unique_data,
        at=at,
        sizes=fit.ranges.get("num_params"),
    )
    if not np.isfinite(best.total_flops[0]):
        raise AnalysisError(
            f"loss={loss:g} is reached at no budget by this fit of {law.name} ({fit.params}); ask for a loss above the "
            "law's floor and below its value for tiny models"
        )
    N, D = best.num_params, best.data_seen
    with np.errstate(invalid="ignore"):
        values = {"num_params": N, "data_seen": D, "data_per_param": D / N, "loss": best.loss}
        inference = INFERENCE_FLOPS * N * inference_tokens
        values["train_flops"] = np.where(np.isfinite(best.total_flops), TRAINING_FLOPS * N * D, np.inf)
        if inference_tokens:
            values |= {"inference_flops": inference, "total_flops": best.total_flops}
        if unique_data is not None:
            values["epochs"] = np.maximum(D / unique_data, 1.0)
        values |= price_compute(best.total_flops, price_per_chip_hour, peak_flops, mfu)
    return Optimum(
        law=law.name,
        question={**question, **(at or {})},
        quantities={name: estimate(item[0], item[1:]) for name, item in values.items()},
        warnings=tuple(check_optimum(fit, best, unique_data, at)),
    )


def trace_frontier(fit: Fit, flops: Sequence[float] | Array, *, at: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Returns the compute-optimal choice at each budget: `train_flops num_params data_seen loss`, without intervals.

    Args:
      fit: Of a law of `num_params` and `data_seen`.
      flops: Training budgets.
      at: Values of the law's other variables.

    Raises:
      AnalysisError: as `find_optimum`.
    """
    import pandas as pd

    check_units(fit)
    budgets = np.asarray(flops, dtype=np.float64)
    if not (np.isfinite(budgets) & (budgets > 0)).all():
        raise AnalysisError(f"flops={budgets.tolist()} must be finite and positive; give budgets such as 1e20")
    params = np.tile(fit.vector, (len(budgets), 1))
    best = allocate(fit.form, params, flops=budgets, at=at, sizes=fit.ranges.get("num_params"))
    columns = {"num_params": best.num_params, "data_seen": best.data_seen, "loss": best.loss}
    return pd.DataFrame({"train_flops": budgets, **columns})


def iso_loss(
    fit: Fit, losses: Sequence[float], num_params: Sequence[float], *, at: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Returns contours of equal loss: `loss num_params data_seen train_flops`, without the sizes that never reach it.

    Args:
      fit: Of a law of `num_params` and `data_seen`.
      losses: The contours.
      num_params: The sizes.
      at: Values of the law's other variables.

    Raises:
      AnalysisError: as `find_optimum`; if a size is not positive.
    """
    import pandas as pd
    from scipy.optimize import elementwise

    sizes = np.asarray(num_params, dtype=np.float64)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise AnalysisError(f"num_params={sizes.tolist()} must be finite and positive; give sizes such as 1e8")
    line = Line(fit.form, fit.vector[None], 0.0, None, dict(at or {}), None, None)
    goal, N = (grid.ravel() for grid in np.meshgrid(np.asarray(losses, dtype=np.float64), sizes, indexing="ij"))

    def gap(log_data: Array, N: Array, goal: Array) -> Array:
        return np.minimum(line.value(N[None], np.exp(log_data)[None], None)[0], FINITE) - goal

    reached = (gap(np.zeros_like(N), N, goal) > 0) & (gap(np.full_like(N, MOST_DATA), N, goal) < 0)
    D = np.exp(elementwise.find_root(gap, (0.0, MOST_DATA), args=(N, goal)).x)
    table = {"loss": goal, "num_params": N, "data_seen": D, "train_flops": TRAINING_FLOPS * N * D}
    return pd.DataFrame({name: values[reached] for name, values in table.items()})


def price_compute(
    flops: float | Array, price_per_chip_hour: float | None, peak_flops: float | None, mfu: float | None
) -> dict[str, Array]:
    """Returns `chip_hours` and `dollars` of compute, as far as the peak, its share and the price are known.

    Args:
      flops: What is computed.
      price_per_chip_hour: Of one chip, in dollars.
      peak_flops: FLOP/s of one chip.
      mfu: Share of the peak that is reached.

    Raises:
      AnalysisError: on a value out of range, or one without the others that it needs.

    >>> {name: float(value) for name, value in price_compute(3.6e18, 2.0, 1e15, 0.5).items()}
    {'chip_hours': 2.0, 'dollars': 4.0}
    """
    given = {"price_per_chip_hour": price_per_chip_hour, "peak_flops": peak_flops, "mfu": mfu}
    for name, value in given.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise AnalysisError(f"{name}={value:g} must be finite and positive; leave it out or give a number above 0")
    if mfu is not None and mfu > 1:
        raise AnalysisError(f"mfu={mfu:g} must be at most 1; give the share of the peak, 0.4 for 40 %")
    if (peak_flops is None) != (mfu is None) or (price_per_chip_hour is not None and peak_flops is None):
        listed = ", ".join(f"{name}={value}" for name, value in given.items())
        raise AnalysisError(f"{listed}: chip-hours need peak_flops and mfu, and dollars all three; give them together")
    if peak_flops is None or mfu is None:
        return {}
    hours = np.asarray(flops, dtype=np.float64) / (peak_flops * mfu * 3600)
    return {"chip_hours": hours} | ({} if price_per_chip_hour is None else {"dollars": hours * price_per_chip_hour})


def estimate(value: float, draws: Array) -> Estimate:
    """Returns a value with the 95 % percentile interval of its draws `[R]`; infinite draws count as large."""
    known = np.asarray(draws, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return Estimate(value=float(value))
    ends = read_percentiles(np.clip(known, -MISSING, MISSING), [2.5, 97.5])
    low, high = (float(end) if abs(end) < MISSING / 1e6 else float(np.copysign(np.inf, end)) for end in ends)
    return Estimate(value=float(value), low=low, high=high)


def frame_estimates(quantities: Mapping[str, Estimate], name: str) -> pd.DataFrame:
    """Returns a row for each estimate: `estimate low high`."""
    import pandas as pd

    rows = [(item.value, item.low, item.high) for item in quantities.values()]
    index = pd.Index(list(quantities), name=name)
    return pd.DataFrame(rows, columns=["estimate", "low", "high"], index=index).astype(float)


def _check_question(
    flops: float | None,
    loss: float | None,
    inference_tokens: float,
    unique_data: float | None,
    price: float | None,
    peak_flops: float | None,
    mfu: float | None,
) -> dict[str, float]:
    if (flops is None) == (loss is None):
        raise AnalysisError(f"flops={flops} and loss={loss}: give exactly one of them, the budget or the loss to reach")
    given = {
        "flops": flops,
        "loss": loss,
        "inference_tokens": inference_tokens or None,
        "unique_data": unique_data,
        "price_per_chip_hour": price,
        "peak_flops": peak_flops,
        "mfu": mfu,
    }
    question = {name: float(value) for name, value in given.items() if value is not None}
    for name, value in question.items():
        if not (np.isfinite(value) and value > 0):
            raise AnalysisError(f"{name}={value:g} must be finite and positive; leave it out or give a number above 0")
    price_compute(1.0, price, peak_flops, mfu)
    return question


def check_optimum(
    fit: Fit, best: Allocation, unique_data: float | None = None, at: Mapping[str, float] | None = None
) -> list[Notice]:
    """Returns what to know about the optima of a fit: no minimum inside, far beyond the points, no intervals.

    Args:
      fit: The fit.
      best: Its optimum, and those of its resamples after it.
      unique_data: As in `find_optimum`.
      at: As in `find_optimum`.
    """
    N, D, notices = float(best.num_params[0]), float(best.data_seen[0]), []
    point = {"num_params": N, "data_seen": D, "data_unique": min(D, unique_data or D), **(at or {})}
    if fit.status != "ok":
        text = f"the fit is {fit.status} and its optimum no better; read the fit's own warnings"
        notices.append(Notice(code="weak_fit", text=text, is_weak=True))
    if best.is_edge[0]:
        text = (
            f"the loss still falls at the end of the search (N = {N:.3g}, D = {D:.3g}): this fit has no optimum at the "
            "budget; vary N and D independently of each other, or use a law with both terms"
        )
        notices.append(Notice(code="no_interior_optimum", text=text, is_weak=True))
    known = {name: np.array([value]) for name, value in point.items()}
    inside = fit.model_copy(update={"ranges": {name: item for name, item in fit.ranges.items() if name in known}})
    notices += check_distance(inside.ranges, known)
    seen = "data_seen" if "data_seen" in fit.form.variables else "data_unique"
    corner = TRAINING_FLOPS * fit.ranges.get("num_params", (0, np.inf))[1] * fit.ranges.get(seen, (0, np.inf))[1]
    flops = TRAINING_FLOPS * N * D
    if FAR * corner < flops:
        text = (
            f"{flops:.3g} training FLOPs are {flops / corner:.3g} times the largest size on the most data of "
            "the points: exponents that fit alike here part out there; add a larger budget before spending this"
        )
        notices.append(Notice(code="extrapolation_flops", text=text))
    if len(best.loss) < 2:
        withheld = find_withheld(fit.warnings)
        text = "the fit has no resamples, so nothing here has an interval; fit again with --bootstrap 1000"
        text = f"nothing here has an interval, as in the fit: {withheld.text}" if withheld else text
        notices.append(Notice(code="no_intervals", text=text))
    elif not np.isfinite(best.total_flops).all():
        share = float((~np.isfinite(best.total_flops[1:])).mean())
        text = (
            f"{share:.1%} of the resamples never reach the loss, and count as an infinite budget; ask for a loss "
            "further from the floor, or add runs nearer to it"
        )
        notices.append(Notice(code="unreachable", text=text, is_weak=share > 0.025))
    if seen == "data_unique":
        text = "the law has no data_seen: each datum is charged once; fit a law of data_seen where runs repeat data"
        notices.append(Notice(code="one_pass", text=text))
    if unique_data is not None and unique_data < D and not {"data_seen", "data_unique"} <= set(fit.form.variables):
        text = (
            f"{D / unique_data:.3g} epochs are discounted as Muennighoff et al. 2023 measured on C4, not as this data "
            "would be; fit a law of data_unique on runs that repeat theirs"
        )
        notices.append(Notice(code="borrowed_repetition", text=text))
    return notices
