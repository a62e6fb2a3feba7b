"""Who is ahead and who still improves, in rows and in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.fit_table import format_interval
from analysis.report.figure import name_amount
from analysis.report.section import LEAD, OPEN, SLOPE, Claim, Rows

if TYPE_CHECKING:
    import pandas as pd

    from analysis.decisions.compare import Crossing, Ordering
    from analysis.decisions.slopes import Slopes
    from analysis.report.lines import Lines
    from analysis.report.subject import Subject


def crossing_rows(crossings: list[Crossing], short: str = "m") -> list[dict[str, Any]]:
    """Returns a row for each crossing: where, its interval, and who leads on which side."""
    return [
        {
            short: int(float(f"{crossing.size:.3g}")),
            f"{short} 95 %": format_interval(crossing.low, crossing.high),
            "ahead before": crossing.ahead_before,
            "ahead after": crossing.ahead_after,
            "replicates that cross": f"{crossing.share:.0%}",
        }
        for crossing in crossings
    ]


def lead_rows(order: Ordering, labels: list[str]) -> list[dict[str, Any]]:
    """Returns a row for each series: from which place on it is significantly ahead of each other one."""
    rows = []
    for label in labels:
        row: dict[str, Any] = {"": label}
        for other in labels:
            start = None if other == label else ahead_from(order, label, other)
            row[other] = f"{start:,.6g}" if start is not None else "-"
        rows.append(row)
    return rows


def order_rows(order: Ordering, short: str = "m") -> list[dict[str, Any]]:
    """Returns a row for each place: the best series and who is not significantly behind it."""
    return [
        {
            short: int(row["m"]) if float(row["m"]).is_integer() else float(row["m"]),
            "best": row["best"],
            "value": float(row["value"]),
            "95 %": format_interval(row["low"], row["high"]),
            "not significantly behind": ", ".join(label for label in row["leaders"] if label != row["best"])
            or "nobody",
        }
        for _, row in order.sizes.iterrows()
    ]


def ahead_from(order: Ordering, label: str, other: str) -> float | None:
    """Returns the smallest place from which on a series is significantly ahead of another; None where nowhere."""
    shared = {frozenset(pair) for pair in zip(order.pairs["first"], order.pairs["second"], strict=True)}
    return order.ahead_from(label, other) if frozenset((label, other)) in shared else None


def find_ranges(points: pd.DataFrame, order: Ordering) -> list[tuple[float, float]]:
    """Returns the ranges around unsettled places, each up to half-way (in logarithms) to its settled neighbours."""
    sizes = sorted(points["place"].unique())
    open_sizes = set(order.unsettled_sizes)
    ranges: list[tuple[float, float]] = []
    for index, size in enumerate(sizes):
        if size not in open_sizes:
            continue
        low = np.sqrt(size * sizes[index - 1]) if index else size / np.sqrt(2)
        high = np.sqrt(size * sizes[index + 1]) if index + 1 < len(sizes) else size * np.sqrt(2)
        if ranges and np.isclose(ranges[-1][1], low):
            ranges[-1] = (ranges[-1][0], float(high))
        else:
            ranges.append((float(low), float(high)))
    return ranges


def claim_lead(
    subject: Subject, lines: Lines, order: Ordering, unsettled: Sequence[tuple[float, float]]
) -> list[Claim]:
    """Returns who is ahead where the axis ends, and where the order is open."""
    points, short = lines.points, name_amount(lines.axis, subject, short=True)
    places, extreme = sorted(points["place"].unique()), "lowest" if subject.lower_is_better else "highest"
    last = points[points["place"] == places[-1]].sort_values("mean", ascending=subject.lower_is_better)
    best = last.iloc[0]
    at = f"{best['mean']:.4g} ({format_interval(best['low'], best['high'])})"
    since = _ahead_of_all_from(best["label"], list(subject.labels), points, order)
    if since is None:
        behind = [other for other in subject.labels if _is_ahead_at(order, best["label"], other, places[-1])]
        beaten = f"ahead of {', '.join(behind)} alone" if behind else "ahead of nobody"
        text = (
            f"At the largest {short}, {places[-1]:,.6g}, {best['label']} has the {extreme} mean {subject.target}, {at}"
            f", and is significantly {beaten}."
        )
    else:
        text = (
            f"From {short} = {since:,.6g} on, {best['label']} is significantly ahead of every other series observed "
            f"there; at {short} = {places[-1]:,.6g} its mean {subject.target} is {at}."
        )
    claims = [Claim(LEAD, text)]
    inside = [place for place in places if any(low <= place <= high for low, high in unsettled)]
    if inside:
        listed = ", ".join(f"{place:,.6g}" for place in inside)
        text = f"The order at the top is not settled at {short} = {listed}: the best mean is within the noise of seeds."
        claims.append(Claim(OPEN, text))
    else:
        claims.append(Claim(OPEN, f"The best series is significantly ahead of the runner-up at every {short}."))
    return claims


def list_slopes(slopes: Slopes) -> Rows:
    """Returns the verdict of each series with its test."""
    words = slopes.describe()
    rows = [
        {
            "series": row["label"],
            "verdict": row["verdict"],
            "p (Holm)": row["p_holm"],
            "in words": words[str(row["label"])],
        }
        for row in slopes.table.to_dict("records")
    ]
    note = (
        f"The change of {slopes.measure.name} for each doubling, by the slope over the last sizes, one of each "
        "seed. Flat: the "
        f"95 % interval lies within ±{slopes.margin:.0%}."
    )
    return Rows("slopes", "What is flat, and what still improves", rows, note, ("in words",))


def claim_slopes(slopes: Slopes) -> list[Claim]:
    """Returns one sentence of what still improves, what is flat, and what cannot be told."""
    names: dict[str, list[str]] = {}
    for row in slopes.table.to_dict("records"):
        names.setdefault(row["verdict"], []).append(str(row["label"]))
    words = {"improves": "still improve", "flat": "are flat", "worsens": "worsen", "not settled": "are not settled"}
    single = {"improves": "still improves", "flat": "is flat", "worsens": "worsens", "not settled": "is not settled"}
    parts = [
        f"{', '.join(names[verdict])} {(words if len(names[verdict]) > 1 else single)[verdict]}"
        for verdict in words
        if verdict in names
    ]
    if not parts:
        return []
    doubling = f"a doubling of {slopes.axis.symbol}"
    return [
        Claim(
            SLOPE,
            f"At the end of their ranges, by what {doubling} changes: {'; '.join(parts)} (tests corrected by Holm).",
        )
    ]


def _is_ahead_at(order: Ordering, label: str, other: str, place: float) -> bool:
    """Returns whether a series is significantly ahead of another at a place."""
    pairs = order.pairs[order.pairs["m"] == place]
    both = pairs["first"].isin([label, other]) & pairs["second"].isin([label, other])
    return bool((pairs.loc[both, "better"] == label).any())


def _ahead_of_all_from(label: str, labels: list[str], points: pd.DataFrame, order: Ordering) -> float | None:
    places = {one: set(points.loc[points["label"] == one, "place"]) for one in labels}
    starts = []
    for other in labels:
        if other != label and max(places[other]) >= max(places[label]):
            start = ahead_from(order, label, other)
            if start is None:
                return None
            starts.append(start)
    return max(starts, default=None)


def note_order(order: Ordering) -> str:
    """Returns what claims about the order rest on."""
    borrowed = f", their variances borrow {order.borrowed:.0f} degrees of freedom" if order.borrowed else ""
    return (
        f"Differences are paired by seed{borrowed}; claims hold at 5 % after Holm's correction for "
        f"{order.num_tests} tests. "
        "Intervals are for each mean by itself."
    )
