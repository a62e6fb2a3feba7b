"""Chinchilla's three approaches on one table beside each other: envelope, isoFLOP profiles, parametric, and their gap.

They use the same runs and differ in what they assume, so that a gap between them says what the assumption costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.decisions.allocation import allocate
from analysis.decisions.isoflop import Curve, IsoFlops, Tolerance, find_valleys, fit_valleys
from analysis.decisions.optimum import Estimate, check_optimum, estimate, price_compute
from analysis.decisions.pooling import check_pooling
from analysis.decisions.trends import (
    BLIND,
    STEP,
    UNKNOWN,
    check_budget,
    check_exponents,
    check_sizes,
    is_exponent_identified,
    is_size_identified,
    merge_notices,
    name_speaker,
    show_exponent,
    show_size,
)
from analysis.decisions.valleys import Valley
from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import Notice, is_weak
from analysis.laws.law import Law
from analysis.laws.registry import get_law
from scaling.specs.metrics import is_lower_better

if TYPE_CHECKING:
    import pandas as pd

    from analysis.decisions.envelope import Envelope
    from analysis.fitting.fit import Fit

NAMES = ("envelope", "isoflop_cubic", "isoflop_parabola", "parametric")
# Notices of an optimum that only point to the fit's own, which are told here too.
REPEATED = ("weak_fit",)


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
      notices: Coded warnings with remedies, of every step of it.
      is_blind: Whether its points cannot tell any of the four, whatever the intervals are.
    """

    name: str
    size_exponent: Estimate
    data_exponent: Estimate
    num_params: Estimate
    data_seen: Estimate
    ranges: tuple[float, float]
    notices: tuple[Notice, ...] = ()
    is_blind: bool = False

    @property
    def status(self) -> str:
        """Returns `ok`, or `weak` where a notice says so."""
        return "weak" if is_weak(self.notices) else "ok"

    @property
    def knows_exponent(self) -> bool:
        """Returns whether a means something."""
        return not self.is_blind and is_exponent_identified(self.size_exponent)

    @property
    def knows_size(self) -> bool:
        """Returns whether N* at the budget means something."""
        return not self.is_blind and is_size_identified(self.num_params)

    def show(self) -> tuple[str, str, str, str]:
        """Returns a, b, N* and D* for people: in words where they mean nothing."""
        if self.is_blind:
            return UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN
        exponents, sizes = (self.size_exponent, self.data_exponent), (self.num_params, self.data_seen)
        a, b, size, data = *map(show_exponent, exponents), *map(show_size, sizes)
        return a, b, size, data


@dataclass(frozen=True)
class Approaches:
    """The approaches that a table allows; prints as a table with their disagreement.

    Attributes:
      flops: The budget of N* and D*.
      found: What each says.
      missing: Why another is not there, by name.
      general: Coded warnings of all of them together: rows that were pooled, approaches that disagree.
      n: Runs that they rest on.
      left_out: How many rows they do not, by reason.
      cost: `chip_hours` and `dollars` of the budget, as far as asked for.
      isoflops: The lines through the profiles, by the name of the approach.
      valleys: The profiles, by the name of the approach; there too where it is missing.
      envelope: The envelope.
      fit: The fitted law.
    """

    flops: float
    found: tuple[Approach, ...]
    missing: Mapping[str, str]
    general: tuple[Notice, ...]
    n: int
    left_out: Mapping[str, int]
    cost: Mapping[str, float] = field(default_factory=dict)
    isoflops: Mapping[str, IsoFlops] = field(default_factory=dict, repr=False)
    valleys: Mapping[str, tuple[Valley, ...]] = field(default_factory=dict, repr=False)
    envelope: Envelope | None = field(default=None, repr=False)
    fit: Fit | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> Approach:
        for item in self.found:
            if item.name == name:
                return item
        if name in self.missing:
            raise AnalysisError(f"approach={name!r} is not possible on this table: {self.missing[name]}")
        raise suggest_name("approach", name, NAMES)

    @property
    def told(self) -> list[tuple[tuple[str, ...], Notice]]:
        """Returns each warning once, with the names of the approaches that it is of; none where it is of all."""
        merged = merge_notices((item.name, item.notices) for item in self.found)
        return [*merged, *(((), notice) for notice in self.general)]

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """Returns each warning once, with the approaches that it is of in its text."""
        return tuple(name_speaker(names, notice) for names, notice in self.told)

    @property
    def exponent_gap(self) -> float | None:
        """Returns the largest exponent of N* less the smallest, of those that mean something; None below two."""
        values = [item.size_exponent.value for item in self.found if item.knows_exponent]
        return max(values) - min(values) if len(values) > 1 else None

    @property
    def size_ratio(self) -> float | None:
        """Returns the largest N* over the smallest, at the budget and of those that mean something; None below two."""
        values = [item.num_params.value for item in self.found if item.knows_size]
        return max(values) / min(values) if len(values) > 1 else None

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each approach: `a a_low a_high b … num_params … data_seen … status`."""
        import pandas as pd

        rows, statuses = {}, {}
        for item in self.found:
            cells = {"a": item.size_exponent, "b": item.data_exponent}
            cells |= {"num_params": item.num_params, "data_seen": item.data_seen}
            statuses[item.name] = item.status
            rows[item.name] = {
                f"{name}{end}": value
                for name, cell in cells.items()
                for end, value in (("", cell.value), ("_low", cell.low), ("_high", cell.high))
            }
        frame = pd.DataFrame.from_dict(rows, orient="index").astype(float)
        return frame.assign(status=pd.Series(statuses, dtype=object)).rename_axis("approach")

    def summarise(self) -> str:
        """Returns the table, what it rests on and what is not possible, without the warnings."""
        import pandas as pd

        rows = [(item.name, *item.show(), item.status) for item in self.found]
        names = ["approach", "a: N* ~ C^a", "b: D* ~ C^b", "N*", "D*", "status"]
        cost = "".join(f", {value:,.4g} {name.replace('_', '-')}" for name, value in self.cost.items())
        out = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        lines = [
            f"compute-optimal sizes at {self.flops:.4g} FLOPs{cost}",
            pd.DataFrame(rows, columns=names).to_string(index=False),
        ]
        gap = [f"{self.exponent_gap:.3g} in a"] if self.exponent_gap is not None else []
        gap += [f"{self.size_ratio:.4g} times in N*"] if self.size_ratio is not None else []
        lines += [f"disagreement: {', '.join(gap)}"] if gap else []
        lines.append(f"from {self.n} runs; left out: {out or 'nothing'}")
        lines += [f"{name}: not possible here: {reason}" for name, reason in self.missing.items()]
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n".join([self.summarise(), *map(str, self.warnings)])


def compare_approaches(
    table: pd.DataFrame,
    *,
    flops: float | None = None,
    law: str | Law = "chinchilla",
    fit: Fit | None = None,
    by: str = "cell",
    target: str = "loss",
    tolerance: Tolerance = "auto",
    budget: str | None = None,
    price_per_chip_hour: float | None = None,
    peak_flops: float | None = None,
    mfu: float | None = None,
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
      budget: Column that names each run's budget, of `fit_isoflops` too.
      price_per_chip_hour: Of one chip, in dollars; needs the next two.
      peak_flops: FLOP/s of one chip; with `mfu` it gives the chip-hours of the budget.
      mfu: Share of the peak that is reached.
      resamples: Of each approach.
      seed: Of the resamples.

    Raises:
      AnalysisError: on an unknown law, a missing column, a target that is better when higher, a budget or a price out
        of range, or where no approach is possible.
    """
    from analysis.decisions.envelope import fit_envelope
    from analysis.fit_table import drop_twins
    from analysis.fit_table import fit as fit_table
    from analysis.tables.table import read_numbers, select_rows

    law = get_law(law)
    if "num_params" not in law.variables or not {"data_seen", "data_unique"} & set(law.variables):
        raise AnalysisError(
            f"law={law.name!r} has variables {law.variables!r}; an optimum needs a law of num_params and data_seen, "
            "like chinchilla"
        )
    if not is_lower_better(target):
        raise AnalysisError(f"target={target!r} is better when higher, and an optimum is a minimum; take loss or error")
    table, twins = drop_twins(table)
    needed = ["train_flops", "num_params", "data_seen", target]
    rows, left_out, _ = select_rows(table, needed, positive=needed)
    if not len(rows):
        raise AnalysisError(f"table has no usable rows with {', '.join(needed)}; see what --keep and status left over")
    spent = read_numbers(rows, "train_flops")
    if budget is not None and budget not in rows.columns:
        raise suggest_name("budget", budget, rows.columns)
    asked = float(spent.max()) if flops is None else float(flops)
    if not (np.isfinite(asked) and asked > 0):
        raise AnalysisError(f"flops={asked:g} must be finite and positive; give a budget such as 1e21")
    cost = {name: float(value) for name, value in price_compute(asked, price_per_chip_hour, peak_flops, mfu).items()}
    ranges, made = (float(spent.min()), float(spent.max())), _Made()

    def profile(name: str, curve: Curve) -> Approach:
        made.valleys[name] = find_valleys(
            table, curve=curve, target=target, tolerance=tolerance, budget=budget, resamples=resamples, seed=seed
        )
        made.isoflops[name] = result = fit_valleys(made.valleys[name])
        return _read_lines(name, result, asked)

    def envelope() -> Approach:
        made.envelope = fit_envelope(table, by=by, target=target, resamples=resamples, seed=seed)
        return _read_lines("envelope", made.envelope, asked)

    def parametric() -> Approach:
        made.fit = fit or fit_table(rows, law, target, bootstrap=resamples, seed=seed)
        return _read_law(made.fit, asked, ranges, REPEATED if fit else (*REPEATED, "no_intervals"))

    tries: dict[str, Callable[[], Approach]] = {
        "envelope": envelope,
        "isoflop_cubic": lambda: profile("isoflop_cubic", "cubic"),
        "isoflop_parabola": lambda: profile("isoflop_parabola", "parabola"),
        "parametric": parametric,
    }
    found, missing = [], {}
    for name, attempt in tries.items():
        try:
            found.append(attempt())
        except AnalysisError as error:
            missing[name] = str(error)
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise AnalysisError(f"no approach is possible on this table ({reasons}); run several sizes at several budgets")
    return Approaches(
        flops=asked,
        found=tuple(found),
        missing=missing,
        general=(*check_pooling(rows), *_check_agreement(found)),
        n=len(rows),
        left_out={**({"the same cell under another label": twins} if twins else {}), **left_out},
        cost=cost,
        isoflops=made.isoflops,
        valleys=made.valleys,
        envelope=made.envelope,
        fit=made.fit,
    )


@dataclass
class _Made:
    """What the approaches were read from."""

    isoflops: dict[str, IsoFlops] = field(default_factory=dict)
    valleys: dict[str, tuple[Valley, ...]] = field(default_factory=dict)
    envelope: Envelope | None = None
    fit: Fit | None = None


def _read_lines(name: str, result: IsoFlops | Envelope, flops: float) -> Approach:
    size, data = result.size, result.data
    sizes = size.at(flops), data.at(flops)
    notices = [*result.warnings, *check_sizes(*sizes, flops), *check_budget(flops, size.ranges)]
    return Approach(name, size.exponent, data.exponent, *sizes, size.ranges, tuple(notices))


def _read_law(fit: Fit, flops: float, ranges: tuple[float, float], leave: tuple[str, ...]) -> Approach:
    params = np.concatenate([fit.vector[None], fit.replicates])
    best = [
        allocate(fit.form, params, flops=flops * np.exp(step), sizes=fit.ranges.get("num_params"))
        for step in (-STEP, 0.0, STEP)
    ]

    def slope(name: str) -> Estimate:
        values = np.log(getattr(best[2], name) / getattr(best[0], name)) / (2 * STEP)
        return estimate(values[0], values[1:])

    middle = best[1]
    exponents = slope("num_params"), slope("data_seen")
    sizes = estimate(middle.num_params[0], middle.num_params[1:]), estimate(middle.data_seen[0], middle.data_seen[1:])
    own = [notice for notice in check_optimum(fit, middle) if notice.code not in leave]
    notices = [*fit.warnings, *own]
    blind = dict.fromkeys(notice.code for notice in notices if notice.code in BLIND)
    if blind:
        text = (
            f"these points identify neither the exponents nor N* and D* ({', '.join(blind)}), whatever the intervals "
            "are: no number is shown; run more sizes at several budgets"
        )
        notices.append(Notice(code="unidentified", text=text, is_weak=True))
    else:
        notices += [*check_exponents(*exponents), *check_sizes(*sizes, flops)]
    notices += check_budget(flops, ranges)
    return Approach("parametric", *exponents, *sizes, ranges, tuple(notices), bool(blind))


def _check_agreement(found: list[Approach]) -> list[Notice]:
    """Returns a notice for each pair whose intervals of N* do not meet."""
    notices = []
    for first, second in itertools.combinations([item for item in found if item.knows_size], 2):
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
