"""An idea against a baseline, on all that their runs allow: order, slopes, crossings, gains, surfaces, and targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.axes import Axis, read_axis, read_unit
from analysis.decisions.compare import Crossing, Ordering, find_crossings, order_by_size
from analysis.decisions.gain import Gain, compare_series
from analysis.decisions.slopes import Slopes, judge_slopes
from analysis.decisions.targets import Targets, reach_target
from analysis.errors import AnalysisError, suggest_name
from analysis.fitting.notices import Notice, check_design
from analysis.laws.law import Law
from analysis.laws.registry import get_law
from analysis.tables.measures import Measure, read_measure
from analysis.tables.table import select_rows
from analysis.uncertainty.bootstrap import bootstrap_series
from scaling.specs.fits import LAW, METRIC, RESAMPLES

if TYPE_CHECKING:
    import pandas as pd

    from scaling.specs.metrics import MetricFacts

SURFACE = "chinchilla"  # the law of N and D unless the user, or the study, names another
SIZES = {"data": ("data_unique", "data_seen"), "size": ("num_params",)}  # the first that varies is compared over
COMPUTE = "train_flops"
BLOCKS_SURFACES = ("few_levels", "collinear")  # designs on which N and D cannot be told apart


@dataclass
class Part:
    """What two series are beside each other over one column.

    Attributes:
      axis: The words for the column.
      order: Who is ahead at each size; None where several settings share one, and over compute.
      slopes: What a doubling still brings at the end of each range; None as `order`.
      crossings: Where the fitted curves cross.
      gain: How much less the candidate needs; None without curves.
    """

    axis: Axis
    order: Ordering | None = None
    slopes: Slopes | None = None
    crossings: list[Crossing] = field(default_factory=list)
    gain: Gain | None = None

    @property
    def is_empty(self) -> bool:
        """Returns whether nothing could be said."""
        return self.order is None and self.gain is None


@dataclass(frozen=True)
class Comparison:
    """All that can be said of a candidate beside a baseline.

    Attributes:
      baseline: Label of the baseline.
      candidate: Label of the candidate.
      measure: The target, its direction, and what curves are of.
      parts: By name: `data` or `size`, whichever varies, and `compute`; without those of which nothing could be said.
      surface: The gain along the compute-optimal frontiers of laws of N and D; None where these do not vary.
      targets: What both need to reach a level; None without several evaluations of a run.
      notices: What was left out or is doubtful, and why.
    """

    baseline: str
    candidate: str
    measure: Measure
    parts: dict[str, Part]
    surface: Gain | None
    targets: Targets | None
    notices: tuple[Notice, ...]


def compare_ideas(
    table: pd.DataFrame,
    baseline: str,
    candidate: str,
    *,
    target: str = METRIC,
    by: str = "label",
    law: str | None = None,
    declared: Mapping[str, Any] | None = None,
    resamples: int = RESAMPLES,
    level: float | None = None,
    lower_is_better: bool | None = None,
    known: Iterable[MetricFacts] = (),
) -> Comparison:
    """Returns what a candidate is beside a baseline; what cannot be compared is left out, and a notice says why.

    Where N and D both vary within both series, a law of both is fitted to each, and the gain is that along their
    compute-optimal frontiers. Else curves of one variable are compared over what varies. Of accuracy and the like, of
    which 1 is the best, curves are of what they lack to 1.

    Args:
      table: Rows in the contract's columns, with those of every evaluation for targets.
      baseline: A value of `by`.
      candidate: Another one.
      target: What is compared.
      by: Column that names the ideas; its values are compared as text.
      law: A law of one variable, or one of N and D for surfaces; by default the declared one where it is of that kind.
      declared: The fit that a study declares: `law objective delta smallest_size`, each of which may be missing.
      resamples: Of the bootstrap.
      level: The value of the target to reach; see `reach_target`.
      lower_is_better: The direction; by default what is known of the target.
      known: Metrics beside those of the package.

    Raises:
      AnalysisError: on a missing column, an unknown name, or where nothing at all can be compared.
    """
    known, pair = tuple(known), (baseline, candidate)
    measure = read_measure(target, known, lower_is_better=lower_is_better)
    rows = measure.add_to(_pick(table, by, pair))
    task = _Task(rows, pair, measure, known, dict(declared or {}), law, resamples)
    surface = task.compare_surfaces()
    parts = {name: part for name, part in task.compare_parts(has_surface=surface is not None) if not part.is_empty}
    targets = task.try_to("no_targets", lambda: task.reach(level))
    if targets:
        task.notices += targets.notices
    if not parts and surface is None and targets is None:
        raise AnalysisError("; ".join(notice.text for notice in task.notices))
    return Comparison(baseline, candidate, measure, parts, surface, targets, tuple(task.notices))


def _pick(table: pd.DataFrame, by: str, pair: tuple[str, str]) -> pd.DataFrame:
    """Returns the rows of both ideas, which stand in the column `label`, each cell once."""
    from analysis.tables.runs import fill_names

    if by not in table.columns:
        raise suggest_name("by", by, table.columns)
    names = fill_names(table, by)[by].map(lambda value: value if isinstance(value, str) else f"{value}")
    rows = table.assign(label=names)
    for one in pair:
        if one not in set(rows["label"]):
            raise suggest_name(by, one, rows["label"].unique())
    rows = rows[rows["label"].isin(pair)]
    if by != "label" and "cell" in rows.columns:  # a cell that a store lists in several series
        again = rows.duplicated([name for name in ("label", "study", "cell", "step", "seed") if name in rows.columns])
        rows = rows[~(again & rows["cell"].notna())]
    return rows


class _Task:
    """The rows of two ideas, how they are fitted, and the notices so far."""

    def __init__(
        self,
        rows: pd.DataFrame,
        pair: tuple[str, str],
        measure: Measure,
        known: tuple[MetricFacts, ...],
        declared: dict[str, Any],
        law: str | None,
        resamples: int,
    ) -> None:
        self.rows, self.pair, self.measure, self.known, self.resamples = rows, pair, measure, known, resamples
        self.notices: list[Notice] = []
        smallest = declared.get("smallest_size", 1)
        self.fitted = rows[~(rows["data_unique"] < smallest)] if "data_unique" in rows.columns else rows
        if len(self.fitted) < len(rows):
            self.tell("below_smallest", f"curves leave out runs below m = {smallest:,}, as the study declares")
        self.options = {name: declared[name] for name in ("objective", "delta") if name in declared}
        self.asked = law
        given = [get_law(one) for one in (law, declared.get("law")) if one]
        self.curve_law = next((one for one in given if len(one.variables) == 1), get_law(LAW))
        self.surface_law = next((one for one in given if _is_of_both(one)), get_law(SURFACE))
        if law and not (len(given[0].variables) == 1 or _is_of_both(given[0])):
            raise AnalysisError(
                f"law={law!r} has variables {given[0].variables!r}; a comparison needs a law of one variable, such as "
                f"{LAW}, or of num_params and data_seen, such as {SURFACE}"
            )
        units = {str(unit) for unit in rows["data_unit"].dropna()} if "data_unit" in rows.columns else set()
        self.unit = read_unit(units)
        if measure.is_shortfall:
            self.tell("shortfall", f"curves and slopes are of {measure.name}, which falls where {measure.target} rises")

    def tell(self, code: str, text: str, *, is_weak: bool = False) -> None:
        """Adds a notice."""
        self.notices.append(Notice(code=code, text=text, is_weak=is_weak))

    def try_to(self, code: str, action: Callable[[], Any]) -> Any:
        """Returns what an action returns, or None and a notice where it is refused."""
        try:
            return action()
        except AnalysisError as error:
            self.tell(code, str(error))
            return None

    def reach(self, level: float | None) -> Targets:
        """Returns what both need to reach a level."""
        return reach_target(
            self.rows, self.measure.target, level, baseline=self.pair[0], known=self.known,
            lower_is_better=self.measure.lower_is_better,
        )  # fmt: skip

    def gain(self, law: Law, where: str) -> tuple[Any, Gain | None]:
        """Returns the fits of both ideas and the gain between them."""
        bootstrap = self.try_to(
            "not_fitted",
            lambda: bootstrap_series(self.fitted, law, self.measure.name, resamples=self.resamples, **self.options),
        )
        if bootstrap is None:
            return None, None
        for label, fit in bootstrap.fits.items():
            for notice in fit.warnings:
                self.notices.append(notice.model_copy(update={"text": f"{label}, {where}: {notice.text}"}))
        gain = self.try_to("no_gain", lambda: compare_series(bootstrap, *self.pair, unit=self.unit))
        if gain:
            for notice in gain.notices:
                self.notices.append(notice.model_copy(update={"text": f"{where}: {notice.text}"}))
        return bootstrap, gain

    def compare_surfaces(self) -> Gain | None:
        """Returns the gain along the frontiers of both ideas, where N and D vary within both."""
        law = self.surface_law
        reason = self._refuse_surface(law)
        if reason:
            if self.asked and _is_of_both(get_law(self.asked)):
                raise AnalysisError(f"law={self.asked!r} is of {' and '.join(law.variables)}: {reason}")
            return None
        return self.gain(law, f"{law.name} of {' and '.join(law.variables)}")[1]

    def _refuse_surface(self, law: Law) -> str:
        """Returns why no law of N and D can be fitted to both ideas; nothing where it can."""
        for label in self.pair:
            own = self.fitted[self.fitted["label"] == label]
            if missing := [name for name in law.variables if name not in own.columns]:
                return f"the table has no {', '.join(missing)}"
            points = select_rows(own, [*law.variables, self.measure.name])[0]
            if points.empty:
                return f"{label} has no usable run"
            design = {name: points[name].to_numpy(dtype=float) for name in law.variables}
            if any((values <= 0).any() for values in design.values()):
                return f"{label} has runs with {' or '.join(law.variables)} of 0"
            notices = [one for one in check_design(law, design) if one.code in BLOCKS_SURFACES]
            if notices:
                return f"{label}: {notices[0].text}"
        return ""

    def compare_parts(self, *, has_surface: bool) -> Iterable[tuple[str, Part]]:
        """Yields what the ideas are beside each other over the sizes that vary, and over compute."""
        name, column = next(
            ((name, one) for name, columns in SIZES.items() for one in columns if self._count(one) > 1), ("data", None)
        )
        shares = False
        if column is None:
            self.tell("no_sizes", "no order by size: neither data_unique, data_seen nor num_params varies in both")
        else:
            part = Part(read_axis(column, self.unit))
            part.order = self.try_to(
                "shared_sizes",
                lambda: order_by_size(
                    self.rows, self.measure.target, size=column, lower_is_better=self.measure.lower_is_better
                ),
            )
            shares = part.order is None
            if part.order is not None:
                part.slopes = self.try_to(
                    "no_slopes",
                    lambda: judge_slopes(
                        self.rows, self.measure.target, size=column, known=self.known,
                        lower_is_better=self.measure.lower_is_better,
                    ),
                )  # fmt: skip
            self._add_curves(part, has_surface, shares)
            yield name, part
        part = Part(read_axis(COMPUTE))
        self._add_curves(part, has_surface, shares)
        yield "compute", part

    def _add_curves(self, part: Part, has_surface: bool, shares: bool) -> None:
        """Adds crossings and the gain of curves of one variable, where one variable describes the runs."""
        column, law = part.axis.column, self.curve_law
        if has_surface:
            text = (
                f"no curve of {column} alone: N and D both vary, and the frontiers of their laws are compared instead"
            )
            self.tell("surface", text)
            return
        if self._count(column) <= len(law.params):
            text = f"no curve of {column}: fewer distinct values than {law.name} needs; run more sizes"
            self.tell("few_values", text)
            return
        if not self.measure.falls and self.asked is None:
            text = (
                f"no curve of {column}: {self.measure.target} rises, which {law.name} does not; name a law that does, "
                "or compare an error"
            )
            self.tell("rising", text)
            return
        if shares:
            text = f"the curves of {column} go through the runs of all settings at once; keep one setting with --keep"
            self.tell("mixed_settings", text, is_weak=True)
        bootstrap, part.gain = self.gain(law.bind((column,)), column)
        if bootstrap is not None and column != COMPUTE:
            part.crossings = find_crossings(bootstrap, lower_is_better=self.measure.falls)

    def _count(self, column: str) -> int:
        """Returns how many values of a column both ideas have at least, in usable runs."""
        if column not in self.rows.columns:
            return 0
        final = select_rows(self.rows, [self.measure.target])[0]
        return int(final.groupby("label")[column].nunique().reindex(list(self.pair), fill_value=0).min())


def _is_of_both(law: Law) -> bool:
    """Returns whether a law is of model size and data."""
    return (
        len(law.variables) == 2
        and "num_params" in law.variables
        and np.intersect1d(law.variables, ["data_seen", "data_unique"]).size == 1
    )
