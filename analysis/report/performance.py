"""Performance against what was varied: lines, their fitted laws, where these cross, and who is ahead at each place."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from analysis.decisions.compare import Crossing, Ordering, find_crossings, order_by_size
from analysis.decisions.slopes import Slopes, judge_slopes
from analysis.errors import AnalysisError
from analysis.fit_table import fit, fit_rows, format_interval
from analysis.fitting.objective import make_objective
from analysis.laws.registry import get_law
from analysis.report.figure import draw_against, draw_performance, name_amount
from analysis.report.lines import Lines, find_axes, find_lines
from analysis.report.section import Picture, Rows, Section, Text, tell
from analysis.report.standings import (
    claim_lead,
    claim_slopes,
    crossing_rows,
    find_ranges,
    lead_rows,
    list_slopes,
    note_order,
    order_rows,
)
from analysis.report.subject import AMOUNTS, DATA, SIZE, UNIQUE, Subject, options_of
from analysis.uncertainty.bootstrap import Bootstrap, bootstrap_series
from scaling.specs.fits import LAW

if TYPE_CHECKING:
    import pandas as pd

    from analysis.laws.law import Law

MOST_FITTED = 60  # lines that laws are fitted to
MOST_ORDERED = 24  # series that are ordered at every place
SIZE_AND_DATA = "Size and data"


@dataclasses.dataclass(frozen=True)
class Performance:
    """What is found along the first axis.

    Attributes:
      lines: the lines; None where nothing varies within a series.
      bootstrap: the fitted laws, one a line with at least as many places as parameters.
      crossings: where fitted laws cross.
      order: who is ahead at each place; None where series are several lines.
      slopes: what a doubling still brings at the end of each series' range; None where that cannot be told.
      unsettled: ranges along the axis in which the best series is not significantly ahead of the runner-up.
      notices: why some lines have no fit, and what weakens the others.
    """

    lines: Lines | None
    bootstrap: Bootstrap
    crossings: list[Crossing]
    order: Ordering | None
    slopes: Slopes | None
    unsettled: list[tuple[float, float]]
    notices: list[str]


def study_performance(subject: Subject) -> Performance:
    """Returns what is found along the axis that was varied first.

    Raises:
      AnalysisError: an unknown law, or a value that the law cannot take.
    """
    axes = [name for name in find_axes(subject) if subject.varies_within(name)]
    if not axes:
        return Performance(None, _no_fits(subject), [], None, None, [], [])
    lines = find_lines(subject, axes[0])
    if lines.axis == DATA and SIZE in axes and not lines.is_scatter and _falls_along(lines, SIZE):
        lines = find_lines(subject, SIZE)  # isoFLOP profiles are shown over sizes
    bootstrap, notices = fit_lines(subject, lines)
    crossings: list[Crossing] = []
    unsettled: list[tuple[float, float]] = []
    order, slopes = None, None
    if is_valley(lines):
        return Performance(lines, bootstrap, crossings, order, slopes, unsettled, notices)
    if lines.is_one_a_series and lines.axis in AMOUNTS:
        try:
            slopes = judge_slopes(
                lines.rows, subject.target, by=subject.by, size=lines.axis, lower_is_better=subject.lower_is_better
            )
        except AnalysisError as error:
            notices.append(f"what a doubling still brings: {error}")
    if lines.is_one_a_series and 1 < len(subject.labels) <= MOST_ORDERED:
        order = order_by_size(
            lines.rows, subject.target, by=subject.by, size=lines.axis, lower_is_better=subject.lower_is_better
        )
        unsettled = find_ranges(lines.points, order)
        if len(bootstrap.law.variables) == 1 and all(len(draws) for draws in bootstrap.replicates.values()):
            found = find_crossings(bootstrap, lower_is_better=subject.lower_is_better or subject.is_shortfall)
            crossings = sorted(found, key=lambda crossing: crossing.size)
    return Performance(lines, bootstrap, crossings, order, slopes, unsettled, notices)


def make_performance(subject: Subject, found: Performance) -> Section:
    """Returns the section."""
    missing: list[str] = []
    if found.lines is None:
        missing.append("performance is a number a series: nothing that is known of the runs varies within one")
        return Section("performance", "Performance", (_list_means(subject),), missing=tuple(missing))
    lines, labels = found.lines, found.lines.names
    figure = draw_performance(subject, lines, found.bootstrap, found.unsettled)
    blocks: list[Text | Rows | Picture] = [Picture("performance", figure, _caption(subject, found))]
    others = [name for name in (*AMOUNTS, "wall_seconds") if name != lines.axis and _varies(lines.rows, name)]
    if others and not lines.is_scatter:
        words = ", ".join(name_amount(name, subject) for name in others)
        figure = draw_against(subject, lines, others)
        blocks.append(
            Picture("against", figure, f"The same runs against {words}: what a line costs at each of its points.")
        )
    fits = fit_rows(found.bootstrap, labels)
    if fits:
        blocks.append(Rows("fits", "Fitted laws", fits, _note_of_fits(subject, found.bootstrap)))
    if found.order is not None:
        short = name_amount(lines.axis, subject, short=True)
        blocks += [
            Rows(
                "crossings",
                "Crossing points of the fitted laws",
                crossing_rows(found.crossings, short),
                "Within the range that both series were observed in. The interval is over the replicates that "
                "cross there; "
                "where few do, the crossing itself is in doubt.",
            ),
            Rows("order", f"Who is ahead at which {short}", order_rows(found.order, short), note_order(found.order),
                 ("not significantly behind",)),
            Rows(
                "leads",
                "From where on a series is ahead",
                lead_rows(found.order, list(subject.labels)),
                f"The smallest {short} from which on the series of the row is significantly ahead of that of the "
                "column, at "
                "every one that both have.",
            ),
        ]  # fmt: skip
    if found.slopes is not None:
        blocks.append(list_slopes(found.slopes))
    if found.order is None and len(subject.labels) > 1:
        missing.append(f"who is ahead where: {_why_no_order(subject, lines)}")
    claims = [] if found.order is None else claim_lead(subject, lines, found.order, found.unsettled)
    claims += claim_slopes(found.slopes) if found.slopes is not None else []
    notices = [*found.notices, *tell_fits(found.bootstrap)]
    return Section("performance", "Performance", tuple(blocks), tuple(claims), tuple(notices), tuple(missing))


def fit_lines(subject: Subject, lines: Lines) -> tuple[Bootstrap, list[str]]:
    """Returns the law of each line with paired resamples, and why others have none."""
    law, why = _choose_law(subject, lines)
    if law is None:
        return _no_fits(subject), [why] if why else []
    declared = subject.declared
    rows = lines.rows
    if lines.axis == UNIQUE:
        rows = rows[rows[UNIQUE] >= declared.get("smallest_size", 1)]
    is_log = make_objective(declared["objective"], declared["delta"]).is_log
    fitted, notices = [], []
    for line in lines.names:
        points = rows[rows["line"] == line]
        distinct = points[lines.axis].nunique()
        if distinct < len(law.params):
            notices.append(
                f"{line} is not fitted: {distinct} different points for the {len(law.params)} parameters of {law.name}"
            )
        elif is_log and (points[subject.fitted] <= 0).any():
            notices.append(
                f"{line} is not fitted: {subject.fitted} reaches 0, which has no logarithm; objective mse takes it"
            )
        else:
            fitted.append(line)
    if not fitted:
        return _no_fits(subject, law), notices
    rows = rows[rows["line"].isin(fitted)]
    goal = {"objective": declared["objective"], "delta": declared["delta"]}
    resamples, extra = subject.options.resamples, options_of(subject, law)
    if not extra and resamples > 1:
        return bootstrap_series(rows, law, subject.fitted, by="line", resamples=resamples, **goal), notices
    fits = {
        line: fit(rows[rows["line"] == line], law, subject.fitted, bootstrap=resamples, **goal, **extra).model_copy(
            update={"label": line}
        )
        for line in fitted
    }
    form = next(iter(fits.values())).form
    ranges = {line: dict(each.ranges) for line, each in fits.items()}
    return Bootstrap(form, fits, {line: each.replicates for line, each in fits.items()}, ranges, seed=0), notices


def _choose_law(subject: Subject, lines: Lines) -> tuple[Law | None, str]:
    """Returns the law of one variable that lines are fitted with, or why there is none."""
    declared = get_law(subject.declared["law"])
    law = declared if len(declared.variables) == 1 else get_law(LAW)
    if lines.is_scatter or len(lines.names) > MOST_FITTED:
        return None, ""
    if lines.axis not in AMOUNTS:
        return None, "" if lines.axis in law.variables else f"no law of one variable is fitted along {lines.axis}"
    if not subject.lower_is_better and not subject.is_shortfall:
        return None, ""  # the subject's notices say why
    if is_valley(lines):
        return None, (
            f"no law of {lines.axis} alone is fitted, and series are not ordered along it: it is traded for another "
            "amount, so that performance is a valley"
        )
    return law.bind((lines.axis,)), ""


def is_valley(lines: Lines) -> bool:
    """Returns whether some amount falls as that along the axis grows, as in isoFLOP profiles."""
    if lines.is_scatter or lines.axis not in AMOUNTS:
        return False
    return any(name != lines.axis and name in lines.rows.columns and _falls_along(lines, name) for name in AMOUNTS)


def _falls_along(lines: Lines, name: str) -> bool:
    means = lines.rows.groupby(["line", lines.axis])[name].mean().groupby(level=0)
    first, last = means.first(), means.last()
    return bool((last < 0.95 * first).any())


def _no_fits(subject: Subject, law: Law | None = None) -> Bootstrap:
    return Bootstrap(law or get_law(subject.declared["law"]), {}, {}, {}, seed=0)


def _varies(rows: pd.DataFrame, name: str) -> bool:
    return name in rows.columns and int(rows[name].nunique()) > 1


def _list_means(subject: Subject) -> Rows:
    from analysis.uncertainty.bootstrap import mean_interval

    rows = []
    for label in subject.labels:
        values = subject.of(label)[subject.target].to_numpy(dtype=float)
        mean, low, high = mean_interval(values)
        rows.append({"series": label, subject.target: mean, "95 %": format_interval(low, high), "runs": len(values)})
    return Rows("means", f"Mean {subject.target}", rows)


def _why_no_order(subject: Subject, lines: Lines) -> str:
    if len(subject.labels) > MOST_ORDERED:
        return (
            f"there are {len(subject.labels)} series, and at most {MOST_ORDERED} are ordered; keep fewer, or --by "
            "another column"
        )
    if is_valley(lines):
        return f"along {lines.axis} one amount is traded for another; see {SIZE_AND_DATA} below"
    others = ", ".join(lines.keys) or "other columns"
    return f"series differ in {others} at one {lines.axis}; keep one value with --keep, or compare ideas below"


def _note_of_fits(subject: Subject, bootstrap: Bootstrap) -> str:
    law, first = bootstrap.law, next(iter(bootstrap.fits.values()))
    delta = f", delta {first.objective.delta:g}" if first.objective.delta else ""
    return (
        f"{law.formula}, where y is {subject.fitted}. {law.source}. Objective: {first.objective.name}{delta}. "
        "Intervals: "
        f"{first.conventions.get('uncertainty', 'none')}."
    )


def tell_fits(bootstrap: Bootstrap) -> list[str]:
    """Returns every warning of fits, and the rows that they left out."""
    notices = []
    for label, each in bootstrap.fits.items():
        notices += tell(each.warnings, label)
        notices += [
            f"{label}: left out {count} rows: {why}"
            for why, count in each.left_out.items()
            if why != "not the final row"
        ]
    return notices


def _caption(subject: Subject, found: Performance) -> str:
    lines = found.lines
    if lines is None:
        raise AnalysisError("there is no figure without lines")
    across, unit = name_amount(lines.axis, subject), f" ({subject.unit})" if subject.unit else ""
    if lines.is_scatter:
        return (
            f"{subject.target}{unit} of each run against {across}: no few columns tell one setting at each place "
            "from others."
        )
    parts = [
        f"{subject.target}{unit} on the evaluation set against {across}. Points: means over seeds; bars: 95 % t "
        "intervals."
    ]
    if found.bootstrap.fits:
        what = f", fitted to {subject.fitted}" if subject.is_shortfall else ""
        parts.append(
            f"Lines: the law {found.bootstrap.law.formula}{what} over its points, with its pointwise 95 % band."
        )
    if found.unsettled:
        parts.append("Shaded: the best series is not significantly ahead of the runner-up.")
    return " ".join(parts)
