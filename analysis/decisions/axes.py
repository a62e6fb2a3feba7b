"""The words for what runs spend: a column's noun, its symbol, its unit, and how much less of it a series needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.errors import AnalysisError


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; NaN ends without draws."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Returns whether the interval lies to one side of the value."""
        return self.low > value or self.high < value

    def invert(self) -> Interval:
        """Returns the interval of 1 / x, for x of at least 0.

        >>> str(Interval(0.5, 0.25, 0.8).invert())
        '2 (1.25 to 4)'
        """
        with np.errstate(divide="ignore"):
            return Interval(*(float(1 / np.float64(one)) for one in (self.estimate, self.high, self.low)))

    def __str__(self) -> str:
        return f"{self.estimate:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Axis:
    """What is known of a column that runs spend.

    Attributes:
      column: Its name in the table.
      noun: What it counts.
      symbol: The letter for it.
      is_countable: Whether there are fewer of it, and not less.
      unit: What a value is followed by; empty without one.
    """

    column: str
    noun: str
    symbol: str
    is_countable: bool = False
    unit: str = ""

    def format(self, value: float) -> str:
        """Returns a value of the column, as `C = 1e+12 FLOPs`.

        >>> read_axis("data_unique", "examples").format(1600.0)
        'm = 1,600 examples'
        """
        return f"{self.symbol} = {self.format_amount(value)}"

    def format_amount(self, value: float) -> str:
        """Returns a value of the column with its unit."""
        number = f"{value:,.0f}" if 100 <= abs(value) < 1e7 else f"{value:.3g}"
        return f"{number} {self.unit}".rstrip()

    @property
    def name(self) -> str:
        """Returns what stands beside an axis of a figure."""
        unit = f" ({self.unit})" if self.unit else ""
        symbol = "" if self.symbol == self.noun else f" {self.symbol}"
        return f"{self.noun}{symbol}{unit}"


AXES = {
    axis.column: axis
    for axis in (
        Axis("train_flops", "compute", "C", unit="FLOPs"),
        Axis("train_flops_spent", "compute", "C", unit="FLOPs"),
        Axis("data_unique", "labelled data", "m"),
        Axis("data_seen", "training data", "D"),
        Axis("num_params", "parameters", "N", is_countable=True),
        Axis("step", "steps", "step", is_countable=True),
        Axis("wall_seconds", "seconds", "t", is_countable=True, unit="s"),
        Axis("train_seconds", "seconds of training", "t", is_countable=True, unit="s"),
    )
}


def read_axis(column: str, data_unit: str | None = None) -> Axis:
    """Returns the words for a column; one that is not known is its own noun.

    Args:
      column: Its name in the table.
      data_unit: What data counts, `examples` or `tokens`; tokens have no labels.

    >>> read_axis("data_unique", "tokens").name, read_axis("train_flops").name
    ('unique data m (tokens)', 'compute C (FLOPs)')
    """
    axis = AXES.get(column, Axis(column, column, column))
    if not column.startswith("data_"):
        return axis
    noun = "unique data" if (column, data_unit) == ("data_unique", "tokens") else axis.noun
    return Axis(column, noun, axis.symbol, unit=data_unit or "")


def read_unit(units: set[str]) -> str | None:
    """Returns the unit of a table's data, of the values in its column `data_unit`; None where it has none.

    Raises:
      AnalysisError: it has several.
    """
    if len(units) > 1:
        raise AnalysisError(
            f"data_unit: the table mixes {' and '.join(sorted(units))}, which nothing compares; keep one of them"
        )
    return next(iter(units), None)


def say_factor(
    candidate: str, base: str, factor: Interval, axis: Axis, where: str, *, is_settled: bool | None = None
) -> str:
    """Returns how many times less (or more) of something a candidate needs than a baseline: a factor of at least 1.

    Args:
      candidate: Label of the candidate.
      base: Label of the baseline.
      factor: How many times what the candidate needs the baseline needs.
      axis: Of what.
      where: The end of the sentence: where the factor is read.
      is_settled: Whether the claim is made; by default where the interval excludes 1.

    >>> say_factor("new", "old", Interval(0.5, 0.4, 0.625), AXES["step"], "at a loss of 2")
    'new needs 2 (1.6 to 2.5) times more steps than old at a loss of 2'
    >>> say_factor("new", "old", Interval(1.25, 0.8, 2), AXES["step"], "at a loss of 2")[:41]
    'new needs neither fewer nor more steps th'
    """
    less = "fewer" if axis.is_countable else "less"
    if not np.isfinite(factor.estimate):
        return f"{base} never reaches what {candidate} reaches {where}, with any {axis.noun}"
    if factor.estimate <= 0:
        return f"{base} is from its start where {candidate} is {where}"
    is_known = not np.isnan([factor.low, factor.high]).any()
    is_settled = factor.excludes(1.0) or not is_known if is_settled is None else is_settled
    is_less = factor.estimate >= 1
    times = factor if is_less else factor.invert()
    compared = f"{_say(times, is_known)} times {less if is_less else 'more'} {axis.noun} than {base} {where}"
    if is_settled:
        return f"{candidate} needs {compared}"
    if factor.excludes(1.0):
        return f"{candidate} may need {compared}; corrected for the number of comparisons, this is not settled"
    share, as_much = factor.invert(), "as many" if axis.is_countable else "as much"
    return (
        f"{candidate} needs neither {less} nor more {axis.noun} than {base} {where}, as far as these runs tell: "
        f"{_say(share, is_known)} times {as_much}"
    )


def _say(times: Interval, is_known: bool) -> str:
    if not is_known:
        return f"{times.estimate:.3g} (no interval)"
    high = f"{times.high:.3g}" if np.isfinite(times.high) else "no end"
    return f"{times.estimate:.3g} ({times.low:.3g} to {high})"
