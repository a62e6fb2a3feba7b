"""Chinchilla's three approaches on one table beside each other: envelope, isoFLOP profiles, parametric, and their gap.

They use the same runs and differ in what they assume, so that a gap between them says what the assumption costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.decisions.allocation import allocate
from analysis.decisions.isoflop import Curve, IsoFlops, check_budget, fit_isoflops
from analysis.decisions.optimum import Estimate, estimate
from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import Notice
from analysis.laws.law import Array, Law

if TYPE_CHECKING:
    import pandas as pd

    from analysis.decisions.envelope import Envelope
    from analysis.fitting.fit import Fit

NAMES = ("envelope", "isoflop_cubic", "isoflop_parabola", "parametric")
STEP = 0.01  # of log C, for the slope of log N* in laws without a closed form


@dataclass(frozen=True)
class Approach:
    """What one approach says.

    Attributes:
      name: One of `NAMES`.
      size_exponent: a of N* ~ C^a; of a parametric law its slope at the budget.
      data_exponent: b of D* ~ C^b.
      num_params: N* at the budget.
      data_seen: D* at the budget.
      ranges: Smallest and largest C behind it.
    """

    name: str
    size_exponent: Estimate
    data_exponent: Estimate
    num_params: Estimate
    data_seen: Estimate
    ranges: tuple[float, float]


@dataclass(frozen=True)
class Approaches:
    """The approaches that a table allows; prints as a table with their disagreement.

    Attributes:
      flops: The budget of N* and D*.
      found: What each says.
      missing: Why another is not there, by name.
      warnings: Coded warnings with remedies.
    """

    flops: float
    found: tuple[Approach, ...]
    missing: Mapping[str, str]
    warnings: tuple[Notice, ...]

    def __getitem__(self, name: str) -> Approach:
        for item in self.found:
            if item.name == name:
                return item
        if name in self.missing:
            raise AnalysisError(f"approach={name!r} is not possible on this table: {self.missing[name]}")
        raise suggest_name("approach", name, NAMES)

    @property
    def exponent_gap(self) -> float:
        """Returns the difference of the largest and the smallest exponent of N*."""
        values = [item.size_exponent.value for item in self.found]
        return max(values) - min(values)

    @property
    def size_ratio(self) -> float:
        """Returns the ratio of the largest and the smallest N* at the budget."""
        values = [item.num_params.value for item in self.found]
        return max(values) / min(values)

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each approach: `a a_low a_high b … num_params … data_seen …`."""
        import pandas as pd

        rows = {}
        for item in self.found:
            cells = {"a": item.size_exponent, "b": item.data_exponent}
            cells |= {"num_params": item.num_params, "data_seen": item.data_seen}
            rows[item.name] = {
                f"{name}{end}": value
                for name, cell in cells.items()
                for end, value in (("", cell.value), ("_low", cell.low), ("_high", cell.high))
            }
        return pd.DataFrame.from_dict(rows, orient="index").astype(float).rename_axis("approach")

    def __str__(self) -> str:
        import pandas as pd

        rows = [
            (item.name, *map(str, (item.size_exponent, item.data_exponent, item.num_params, item.data_seen)))
            for item in self.found
        ]
        names = ["approach", "a: N* ~ C^a", "b: D* ~ C^b", "N*", "D*"]
        lines = [
            f"compute-optimal sizes at {self.flops:.4g} FLOPs",
            pd.DataFrame(rows, columns=names).to_string(index=False),
        ]
        if len(self.found) > 1:
            lines.append(f"disagreement: {self.exponent_gap:.3g} in a, {self.size_ratio:.4g} times in N*")
        lines += [f"{name}: not possible here: {reason}" for name, reason in self.missing.items()]
        return "\n".join([*lines, *map(str, self.warnings)])


def compare_approaches(
    table: pd.DataFrame,
    *,
    flops: float | None = None,
    law: str | Law = "chinchilla",
    fit: Fit | None = None,
    by: str = "cell",
    target: str = "loss",
    tolerance: float = 0.1,
    resamples: int = 400,
    seed: int = 0,
) -> Approaches:
    """Returns what the envelope, isoFLOP profiles (cubic and parabola) and a fitted law say, where each is possible.

    Args:
      table: Runs with `train_flops`, `num_params`, `data_seen` and the target; with evaluations during training for
        the envelope.
      flops: Budget at which N* and D* are compared; the largest of the table by default.
      law: Of `num_params` and `data_seen`, fitted to the final rows.
      fit: Such a fit, in place of one made here; its own resamples then count.
      by: Column that names the curve of a row.
      target: The loss.
      tolerance: Of `fit_isoflops`.
      resamples: Of each approach.
      seed: Of the resamples.

    Raises:
      AnalysisError: on a missing column, a budget that is not positive, or where no approach is possible.
    """
    from analysis.decisions.envelope import fit_envelope
    from analysis.fit_table import fit as fit_table
    from analysis.tables.table import read_numbers, select_rows

    needed = ["train_flops", "num_params", "data_seen", target]
    rows, _, _ = select_rows(table, needed, positive=needed)
    if not len(rows):
        raise AnalysisError(f"table has no usable rows with {', '.join(needed)}; see what --keep and status left over")
    spent = read_numbers(rows, "train_flops")
    budget = float(spent.max()) if flops is None else float(flops)
    if not (np.isfinite(budget) and budget > 0):
        raise AnalysisError(f"flops={budget:g} must be finite and positive; give a budget such as 1e21")
    ranges = float(spent.min()), float(spent.max())

    def profile(curve: Curve) -> IsoFlops:
        return fit_isoflops(table, curve=curve, target=target, tolerance=tolerance, resamples=resamples, seed=seed)

    def parametric() -> Approach:
        return _read_law(fit or fit_table(rows, law, target, bootstrap=resamples, seed=seed), budget, ranges)

    tries: dict[str, Callable[[], Approach]] = {
        "envelope": lambda: _read_lines(
            "envelope", fit_envelope(table, by=by, target=target, resamples=resamples, seed=seed), budget
        ),
        "isoflop_cubic": lambda: _read_lines("isoflop_cubic", profile("cubic"), budget),
        "isoflop_parabola": lambda: _read_lines("isoflop_parabola", profile("parabola"), budget),
        "parametric": parametric,
    }
    found, missing, notices = [], {}, []
    for name, attempt in tries.items():
        try:
            found.append(attempt())
        except AnalysisError as error:
            missing[name] = str(error)
            continue
        notices += check_budget(budget, found[-1].ranges, name)
    if not found:
        raise AnalysisError(f"no approach is possible on this table: {missing}; run several sizes at several budgets")
    return Approaches(budget, tuple(found), missing, tuple(notices + _check_agreement(found)))


def _read_lines(name: str, result: IsoFlops | Envelope, flops: float) -> Approach:
    size, data = result.size, result.data
    return Approach(name, size.exponent, data.exponent, size.at(flops), data.at(flops), size.ranges)


def _read_law(fit: Fit, flops: float, ranges: tuple[float, float]) -> Approach:
    params = np.concatenate([fit.vector[None], fit.replicates])
    best = [
        allocate(fit.form, params, flops=flops * np.exp(step), sizes=fit.ranges.get("num_params"))
        for step in (-STEP, 0.0, STEP)
    ]

    def slope(name: str) -> Estimate:
        values = np.log(getattr(best[2], name) / getattr(best[0], name)) / (2 * STEP)
        return estimate(values[0], values[1:])

    def level(values: Array) -> Estimate:
        return estimate(values[0], values[1:])

    middle = best[1]
    sizes = slope("num_params"), slope("data_seen"), level(middle.num_params), level(middle.data_seen)
    return Approach("parametric", *sizes, ranges)


def _check_agreement(found: list[Approach]) -> list[Notice]:
    """Returns a notice for each pair whose intervals of N* do not meet."""
    notices = []
    for first, second in itertools.combinations(found, 2):
        ends = first.num_params.low, first.num_params.high, second.num_params.low, second.num_params.high
        if any(end is None for end in ends):
            continue
        low, high, other_low, other_high = (float(end) for end in ends if end is not None)
        if high < other_low or other_high < low:
            text = (
                f"{first.name} puts N* at {first.num_params} and {second.name} at {second.num_params}: what they "
                "assume differs by more than the noise; narrow the isoFLOP grids, compare objectives, and trust the "
                "one that extrapolates to held-out runs"
            )
            notices.append(Notice(code="approaches_disagree", text=text))
    return notices
