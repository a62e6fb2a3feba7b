"""Everything that a report says about a store, computed once: points, laws, crossings, order, sentences."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.decisions.compare import Crossing, Ordering, find_crossings, order_by_size
from analysis.errors import AnalysisError
from analysis.fit_table import SIZE, fit_study, format_interval
from analysis.tables.table import fingerprint_table, select_rows
from analysis.uncertainty.bootstrap import Bootstrap, mean_interval
from scaling.specs.fits import RESAMPLES
from scaling.specs.metrics import is_lower_better
from scaling.store.store import cell_labels

if TYPE_CHECKING:
    import pandas as pd

    from scaling.store.record import Record
    from scaling.store.store import Store


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a report prints.

    Attributes:
      name, question, metric: of the study.
      data_unit: what m counts: examples or tokens.
      table: all rows of the store.
      cells: the final rows, one a cell and label.
      points: one row a series and size, in the study's order: `label family num_params m seeds mean low high`.
      bootstrap: the fitted laws, one a series with at least as many sizes as parameters.
      crossings: where fitted laws cross.
      order: who is ahead at each size.
      unsettled: ranges of m in which the best series is not significantly ahead of the runner-up.
      notices: why some series have no fit.
      sentences: what all this says, in words.
      slopes: what the last step in m brought each series, in words.
      provenance: what the data was and which proofs the records hold, by name.
      table_sha256: fingerprint of `table`.
    """

    name: str
    question: str
    metric: str
    data_unit: str
    table: pd.DataFrame
    cells: pd.DataFrame
    points: pd.DataFrame
    bootstrap: Bootstrap
    crossings: list[Crossing]
    order: Ordering
    unsettled: list[tuple[float, float]]
    notices: list[str]
    sentences: list[str]
    slopes: list[str]
    provenance: dict[str, str]
    table_sha256: str


def find_all(store: Store, resamples: int = RESAMPLES) -> Findings:
    """Returns the findings of a store.

    Raises:
      AnalysisError: no cell is complete, or none has the study's metric.
      CorruptStoreError: a record cannot be read.
    """
    import pandas as pd

    table = pd.DataFrame(store.rows())
    metric, path = store.study["metric"], str(store.path)
    if table.empty or metric not in table.columns:
        raise AnalysisError(f"store {path!r} has no complete cell with {metric!r}; run the study first")
    rows, left_out, _ = select_rows(table, [SIZE, metric])
    if rows.empty:
        raise AnalysisError(f"store {path!r} has no complete cell with {metric!r}; run the study first")
    points = _summarise_points(rows, metric)
    bootstrap, notices = fit_study(table, store.study, resamples)
    records = store.records()
    known = [facts for record in records.values() for facts in record.data.metrics]
    lower = is_lower_better(metric, known)
    order = order_by_size(table, metric, lower_is_better=lower)
    unsettled = _find_ranges(points, order)
    crossings = sorted(find_crossings(bootstrap, lower_is_better=lower), key=lambda crossing: crossing.size)
    return Findings(
        name=store.study["name"],
        question=store.study["question"],
        metric=metric,
        data_unit=str(rows["data_unit"].iloc[0]),
        table=table,
        cells=table[table["is_final"].astype(bool)],
        points=points,
        bootstrap=bootstrap,
        crossings=crossings,
        order=order,
        unsettled=unsettled,
        notices=notices,
        sentences=_count_missing(store, records, left_out)
        + _put_into_words(points, order, unsettled, lower_is_better=lower),
        slopes=[_describe_slope(label, points) for label in dict.fromkeys(points["label"])],
        provenance=_check_provenance(records),
        table_sha256=fingerprint_table(table),
    )


def crossing_rows(crossings: list[Crossing]) -> list[dict[str, Any]]:
    """Returns a row for each crossing: where, its interval, and who leads on which side."""
    return [
        {
            "m": int(float(f"{crossing.size:.3g}")),
            "m 95 %": format_interval(crossing.low, crossing.high),
            "ahead before": crossing.ahead_before,
            "ahead after": crossing.ahead_after,
            "replicates that cross": f"{crossing.share:.0%}",
        }
        for crossing in crossings
    ]


def lead_rows(order: Ordering, labels: list[str]) -> list[dict[str, Any]]:
    """Returns a row for each series: from which m on it is significantly ahead of each other one."""
    rows = []
    for label in labels:
        row: dict[str, Any] = {"": label}
        for other in labels:
            start = None if other == label else _ahead_from(order, label, other)
            row[other] = f"{start:,.0f}" if start is not None else "-"
        rows.append(row)
    return rows


def order_rows(order: Ordering) -> list[dict[str, Any]]:
    """Returns a row for each size: the best series and who is not significantly behind it."""
    return [
        {
            "m": int(row["m"]),
            "best": row["best"],
            "value": float(row["value"]),
            "95 %": format_interval(row["low"], row["high"]),
            "not significantly behind": ", ".join(label for label in row["leaders"] if label != row["best"])
            or "nobody",
        }
        for _, row in order.sizes.iterrows()
    ]


def _summarise_points(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    import pandas as pd

    found = []
    for (label, m), group in rows.groupby(["label", SIZE], sort=False):
        mean, low, high = mean_interval(group[metric].to_numpy(dtype=float))
        first = group.iloc[0]
        found.append((label, first["family"], first["num_params"], m, len(group), mean, low, high))
    columns = ["label", "family", "num_params", "m", "seeds", "mean", "low", "high"]
    points = pd.DataFrame(found, columns=columns)
    place = {label: index for index, label in enumerate(dict.fromkeys(points["label"]))}
    return points.assign(place=points["label"].map(place)).sort_values(["place", "m"]).drop(columns="place")


def _find_ranges(points: pd.DataFrame, order: Ordering) -> list[tuple[float, float]]:
    """Returns the ranges of m around unsettled sizes, each up to half-way (in log m) to its settled neighbours."""
    sizes = sorted(points["m"].unique())
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


def _count_missing(store: Store, records: dict[str, Record], left_out: dict[str, int]) -> list[str]:
    total = len(cell_labels(store.study))
    sentences = []
    if len(records) < total:
        sentences.append(f"INCOMPLETE: {len(records)} of {total} cells have a record; what follows is of those alone.")
    reasons = [f"{count} where {reason}" for reason, count in left_out.items() if reason != "not the final row"]
    if reasons:
        sentences.append(f"Left out of all that follows, final rows: {', '.join(reasons)}.")
    return sentences


def _put_into_words(
    points: pd.DataFrame, order: Ordering, unsettled: list[tuple[float, float]], *, lower_is_better: bool
) -> list[str]:
    sentences, extreme = [], "lowest" if lower_is_better else "highest"
    labels = list(dict.fromkeys(points["label"]))
    sizes = sorted(points["m"].unique())
    last = points[points["m"] == sizes[-1]].sort_values("mean", ascending=lower_is_better)
    if not last.empty:
        best = last.iloc[0]
        since = _ahead_of_all_from(best["label"], labels, points, order)
        if since is None:
            sentences.append(
                f"At the largest m, {sizes[-1]:,}, {best['label']} has the {extreme} mean ({best['mean']:.4g}), but is "
                "not significantly ahead of every other series."
            )
        else:
            sentences.append(
                f"From m = {since:,.0f} on, {best['label']} is significantly ahead of every other series observed "
                f"there; at m = {sizes[-1]:,} its mean is {best['mean']:.4g} "
                f"({format_interval(best['low'], best['high'])})."
            )
    inside = [size for size in sizes if any(low <= size <= high for low, high in unsettled)]
    if inside:
        listed = ", ".join(f"{size:,}" for size in inside)
        sentences.append(
            f"The order at the top is not settled at m = {listed}: the best mean is within the noise of seeds."
        )
    else:
        sentences.append("The best series is significantly ahead of the runner-up at every m.")
    return sentences


def _ahead_from(order: Ordering, label: str, other: str) -> float | None:
    shared = {frozenset(pair) for pair in zip(order.pairs["first"], order.pairs["second"], strict=True)}
    return order.ahead_from(label, other) if frozenset((label, other)) in shared else None


def _ahead_of_all_from(label: str, labels: list[str], points: pd.DataFrame, order: Ordering) -> float | None:
    sizes = {one: set(points.loc[points["label"] == one, "m"]) for one in labels}
    starts = []
    for other in labels:
        if other != label and max(sizes[other]) >= max(sizes[label]):
            start = _ahead_from(order, label, other)
            if start is None:
                return None
            starts.append(start)
    return max(starts, default=None)


def _describe_slope(label: str, points: pd.DataFrame) -> str:
    """Returns what the last doubling of data brought a series."""
    rows = points[points["label"] == label]
    if len(rows) < 2:
        return f"{label}: one size only."
    before, after = rows.iloc[-2], rows.iloc[-1]
    if before["mean"] <= 0:
        return f"{label}: {after['mean']:.4g} at m = {int(after['m']):,}, after {before['mean']:.4g} before."
    gain = 1 - after["mean"] / before["mean"]
    change = "lowered" if gain >= 0 else "raised"
    return (
        f"{label}: {after['mean']:.4g} at m = {int(after['m']):,}; the last step, from {int(before['m']):,}, "
        f"{change} it by {abs(gain):.1%}."
    )


def _check_provenance(records: dict[str, Record]) -> dict[str, str]:
    """Returns the data's hashes and what the manifests prove, checked here and now."""
    manifests = [record.data for record in records.values()]
    by_draw: dict[tuple[Any, ...], list[Any]] = {}
    for one in manifests:
        by_draw.setdefault((one.source_sha256, one.order, one.seed, one.duplication), []).append(one)
    pairs = [(small, large) for draw in by_draw.values() for small in draw for large in draw if small.size < large.size]
    proven = sum(small.is_prefix_of(large) for small, large in pairs)
    evaluation_sets = {manifest.evaluation_sha256 for manifest in manifests}
    same = "the same for every cell" if len(evaluation_sets) == 1 else f"{len(evaluation_sets)} DIFFERENT ones"
    size = manifests[0].evaluation_size
    environments = sorted({_join(record.environment) for record in records.values()})
    found = [one.in_evaluation for one in manifests if one.in_evaluation is not None]
    most = max(found, default=0)
    overlap = f"{f'at most {most:,}' if most else 'no'} examples of a subset have the inputs of an evaluation example"
    changed = sorted({f"label noise {m.label_noise:g}, duplicates {m.duplication:g}" for m in manifests})
    return {
        "data": ", ".join(sorted({f"{m.source} (sha256 {m.source_sha256[:16]}…)" for m in manifests})),
        "evaluation set": f"{same} ({size:,} examples, sha256 {min(evaluation_sets)[:16]}…)",
        "nested subsets": f"{proven:,} of {len(pairs):,} pairs of records of one seed prove it",
        **({"overlap": overlap} if found else {}),
        **(
            {"changed on purpose": "; ".join(changed)} if any(m.label_noise or m.duplication for m in manifests) else {}
        ),
        "software": "; ".join(environments),
    }


def _join(environment: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in environment.items())
