"""Settings: the best learning rate, batch or depth by size, and the rule that follows."""

from __future__ import annotations

from typing import Any

from analysis.decisions.settings import BestSettings, find_best_settings
from analysis.errors import AnalysisError
from analysis.figures.settings import plot_best_settings
from analysis.fit_table import format_interval
from analysis.report.lines import SYMBOLS, find_shapes, find_swept, show
from analysis.report.section import SETTING, Block, Claim, Picture, Rows, Section, tell
from analysis.report.subject import DATA, SIZE, UNIQUE, Subject
from analysis.report.surfaces import Surfaces, name_groups
from scaling.specs.fields import shorten

TITLE = "Settings"
MOST_SHOWN = 24  # groups; where there are more, a reader unfolds them
# Why a group has no best setting inside those tried, by the code of its notice.
WHY = {
    "edge": "at the edge of what was tried", "no_minimum": "no minimum among what was tried",
    "few_settings": "too few settings",
}  # fmt: skip


def make_settings(subject: Subject, surfaces: Surfaces) -> Section:
    """Returns the section.

    Args:
      subject: what the report is about.
      surfaces: whose groups are ideas: settings are sought for each by itself.
    """
    swept, shapes = find_swept(subject), find_shapes(subject)
    if not swept and not shapes:
        why = (
            "no setting was swept: no runs that are alike in series, N, D and m differ in a number (name one with"
            " --setting)"
        )
        return Section("settings", TITLE, missing=(why,))
    blocks: list[Block] = []
    claims, notices, missing = [], [], []
    ideas = surfaces.rows[surfaces.column].nunique() > 1
    rows = subject.runs.assign(idea=name_groups(subject)) if ideas else subject.runs
    for name in dict.fromkeys((*swept, *shapes)):
        by = [*(["idea"] if ideas else []), *(_sizes(subject) if name in swept else _fixed(subject, name))]
        profile = tuple(other for other in swept if other != name) if name in swept else ()
        short = shorten([name])[name] if "." in name else name
        try:
            found = find_best_settings(
                rows, name, by=by or [subject.by], target=subject.target, profile=profile,
                lower_is_better=subject.lower_is_better, resamples=subject.options.resamples,
            )  # fmt: skip
        except AnalysisError as error:
            missing.append(f"the best {short}: {error}")
            continue
        note = (
            f"The vertex of a parabola of {'log ' if found.is_log else ''}{subject.target} over log {short}, near "
            "the best of "
            "those tried; the cost of 2x is what a factor of two off costs."
        )
        if profile:
            note += f" Each counts with the best {', '.join(profile)} beside it."
        rows_of_best = _rows(found)
        blocks.append(
            Rows(f"best_{short}", f"The best {short}", rows_of_best, note, is_folded=len(rows_of_best) > MOST_SHOWN)
        )
        if found.trends:
            rules = [{"rule": str(each)} for each in found.trends]
            blocks.append(Rows(f"rule_of_{short}", f"How the best {short} grows", rules, wrap=("rule",)))
        caption = f"{subject.target} over {short} with the parabola near the best, and the best against size."
        blocks.append(Picture(f"settings{len(blocks)}", plot_best_settings(found, rows), caption))
        claims.append(Claim(SETTING, _say(found, short)))
        notices += tell(found.notices, short)
    return Section("settings", TITLE, tuple(blocks), tuple(claims), tuple(notices), tuple(missing))


def _sizes(subject: Subject) -> list[str]:
    """Returns the amounts that a best setting may depend on."""
    return [name for name in (SIZE, DATA, UNIQUE) if name in subject.varying and subject.runs[name].notna().all()]


def _fixed(subject: Subject, shape: str) -> list[str]:
    """Returns the amounts that do not follow from a shape."""
    runs = subject.runs
    return [
        name
        for name in _sizes(subject)
        if name != SIZE and (runs.groupby([subject.by, shape])[name].nunique() > 1).any()
    ]


def _rows(found: BestSettings) -> list[dict[str, Any]]:
    rows = []
    for _, row in found.points.iterrows():
        interval = WHY.get(row["note"], row["note"]) or show_ends(row["low"], row["high"])
        rows.append(
            {
                **{SYMBOLS.get(name, name): show(row[name]) for name in found.by},
                "best": f"{row['best']:.3g}",
                "95 %": interval,
                found.target: f"{row[found.target]:.4g}",
                "cost of 2x": f"{row['cost_of_2x']:.2%}"
                if found.is_log and row["cost_of_2x"] == row["cost_of_2x"]
                else None,
                "tried": f"{row['tried_low']:.3g} … {row['tried_high']:.3g}",
                "settings": int(row["settings"]),
                "runs": int(row["runs"]),
                "diverged": int(row["diverged"]),
            }
        )
    return rows


def show_ends(low: float, high: float) -> str:
    """Returns an interval of which an end may lie beyond the settings tried.

    >>> show_ends(0.01, 0.04), show_ends(0.01, float("inf")), show_ends(0.0, float("inf"))
    ('0.01 … 0.04', 'above 0.01', 'not bounded by what was tried')
    """
    is_open_below, is_open_above = not low > 0, not high < float("inf")
    if is_open_below and is_open_above:
        return "no interval" if low != low else "not bounded by what was tried"
    if is_open_below or is_open_above:
        return f"below {high:.3g}" if is_open_below else f"above {low:.3g}"
    return format_interval(low, high)


def _say(found: BestSettings, short: str) -> str:
    inside = found.points[~found.points["is_edge"].astype(bool)]
    if inside.empty:
        remedy = "widen the grid" if (found.points["note"] == "edge").any() else "try more settings"
        return f"The best {short} is not inside what was tried in any of {len(found.points)} groups: {remedy}."
    first, last = inside.iloc[0], inside.iloc[-1]

    def place(row: Any) -> str:
        where = ", ".join(f"{SYMBOLS.get(name, name)} = {show(row[name])}" for name in found.by)
        return f"{row['best']:.3g} ({show_ends(row['low'], row['high'])}) at {where}"

    told = place(first) if len(inside) == 1 else f"{place(first)} and {place(last)}"
    rule = f"; {found.trend}" if found.trend is not None else ""
    edge = len(found.points) - len(inside)
    at_edge = f" ({edge} of {len(found.points)} groups have theirs at the edge of what was tried)" if edge else ""
    return f"The best {short} is {told}{rule}{at_edge}."
