"""What is measured of a target: itself, or what it lacks to 1 where 1 is the best there is, as of accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.specs.metrics import MetricFacts, facts_of, is_lower_better

if TYPE_CHECKING:
    import pandas as pd

BEST_IS_ONE = ("auc", "r2")  # beside shares of predictions of which more is better
SHARE = "share"  # how the unit of such a metric begins


@dataclass(frozen=True)
class Measure:
    """A target, its direction, and what laws and slopes are of.

    Attributes:
      target: The column.
      lower_is_better: Whether smaller values of the column are better.
      is_shortfall: Whether 1 is the best value, so that 1 - target is what falls.
    """

    target: str
    lower_is_better: bool
    is_shortfall: bool

    @property
    def name(self) -> str:
        """Returns what is measured, also the name of its column."""
        return f"1 - {self.target}" if self.is_shortfall else self.target

    @property
    def falls(self) -> bool:
        """Returns whether what is measured falls as a model gets better."""
        return self.lower_is_better or self.is_shortfall

    def convert(self, values: Any) -> Any:
        """Returns what is measured, from values of the target, or the other way round."""
        return 1 - np.asarray(values, dtype=np.float64) if self.is_shortfall else values

    def add_to(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns the table with the column of what is measured."""
        from analysis.tables.columns import read_numbers

        return (
            table.assign(**{self.name: self.convert(read_numbers(table, self.target))}) if self.is_shortfall else table
        )


def read_measure(target: str, known: Iterable[MetricFacts] = (), *, lower_is_better: bool | None = None) -> Measure:
    """Returns what is measured of a column.

    Args:
      target: The column.
      known: Metrics beside those of the package, as a store's records have them.
      lower_is_better: The direction; by default what is known of the column.

    >>> read_measure("accuracy"), read_measure("loss").name
    (Measure(target='accuracy', lower_is_better=False, is_shortfall=True), 'loss')
    """
    known = tuple(known)
    facts, lower = facts_of(target, known), is_lower_better(target, known)
    lower = lower if lower_is_better is None else lower_is_better
    best_is_one = facts is not None and (facts.unit.startswith(SHARE) or facts.name in BEST_IS_ONE)
    return Measure(target, lower, best_is_one and not lower)
