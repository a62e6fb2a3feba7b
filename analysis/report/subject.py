"""What a report is about: a table with the question that was asked of it, and how its rows may be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from analysis.errors import AnalysisError, suggest_name
from analysis.tables.columns import read_numbers
from analysis.tables.measures import Measure, read_measure
from analysis.tables.provenance import provenance_of
from analysis.tables.runs import fill_names
from analysis.tables.table import select_rows
from scaling.specs.fits import METRIC, RESAMPLES, FitSpec
from scaling.specs.metrics import MetricFacts, facts_of, is_lower_better

if TYPE_CHECKING:
    import pandas as pd

    from analysis.laws.law import Law
    from scaling.store.record import Record
    from scaling.store.store import Store

# Names of the columns that N, D, m and C are in.
SIZE, DATA, UNIQUE, COMPUTE = "num_params", "data_seen", "data_unique", "train_flops"
AMOUNTS = (UNIQUE, DATA, SIZE, COMPUTE)
# Paths of fields whose values other columns count, and what these are.
COUNTED = {
    "data.size": UNIQUE, "training.num_steps": DATA, "model.num_params": SIZE, "model.width": SIZE,
    "model.kind": "family", "training.optimizer.peak_lr": "peak_lr", "training.batch_size": "batch_size",
}  # fmt: skip
SETTINGS = ("peak_lr", "batch_size")
SEED = "seed"
MOST_NAMED = 12  # columns that a notice lists
ALL = "all rows"  # the series of a table without any


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What the caller asks of a report.

    Attributes:
      target: the column that performance is; by default the study's metric, else the loss.
      by: the column that names the series; by default `label`, else all rows are one.
      baseline: the series that others are compared with; by default the first.
      settings: columns to be read as settings that have a best value, beside those that are known to be.
      lines: performance to mark across figures, by name: of people, or of a published baseline.
      higher_is_better: of the target, where nothing is known of it.
      fit: instead of what the study declares: `law`, `objective`, `delta`.
      surface: the law of N and D; by default the one that the study declares, if it is one, else Chinchilla's.
      resamples: of every bootstrap.
      command: that asks for the report, to be written into it.
      fit_options: further arguments of `analysis.fit_table.fit`: `hold`, `weights`, `scheme`, `clusters`, `interval`.
    """

    target: str | None = None
    by: str | None = None
    baseline: str | None = None
    settings: Sequence[str] = ()
    lines: Mapping[str, float] = dataclasses.field(default_factory=dict)
    higher_is_better: bool | None = None
    fit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    surface: str | None = None
    resamples: int = RESAMPLES
    command: str = ""
    fit_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A table, and how it is read.

    Attributes:
      name: of the study, or of the file.
      question: that the study asks; empty for a table.
      source: where the table is from, as it was typed.
      table: all rows.
      runs: the usable final rows, with a column for the series and for what laws are fitted to.
      left_out: how many final rows are not usable, by reason.
      target: the column that performance is.
      measure: its direction, and what laws are fitted to: it, or what it lacks to 1 where more of it is better.
      unit: of `target`; empty where it has none, or none is known.
      by: the column of the series.
      labels: the series, in the order of the study.
      baseline: the series that others are compared with.
      data_unit: what data is counted in: `examples`, `tokens` or, of tables that do not say, `data`.
      varying: the columns of amounts and of settings that have several values.
      declared: law, objective, delta and smallest size that laws of one variable are fitted with.
      options: of the caller.
      store: where the table is from one.
      records: of the store's complete cells.
      notices: what should be known of all that follows.
    """

    name: str
    question: str
    source: str
    table: pd.DataFrame
    runs: pd.DataFrame
    left_out: dict[str, int]
    target: str
    measure: Measure
    unit: str
    by: str
    labels: tuple[str, ...]
    baseline: str
    data_unit: str
    varying: tuple[str, ...]
    declared: Mapping[str, Any]
    options: ReportOptions
    store: Store | None = None
    records: Mapping[str, Record] = dataclasses.field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def surface(self) -> str:
        """The law of N and D that surfaces are fitted with."""
        from analysis.laws.registry import get_law

        declared = get_law(self.options.surface or self.declared["law"])
        return declared.name if {SIZE, DATA} <= set(declared.variables) and not declared.of_best else "chinchilla"

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that have several values."""
        return tuple(name for name in self.varying if name not in AMOUNTS)

    @property
    def is_shortfall(self) -> bool:
        """Whether laws are fitted to what the target lacks to 1."""
        return self.measure.is_shortfall

    @property
    def fitted(self) -> str:
        """The column that laws are fitted to."""
        return self.measure.name

    @property
    def lower_is_better(self) -> bool:
        """Whether smaller values of the target are better."""
        return self.measure.lower_is_better

    def of(self, label: str) -> pd.DataFrame:
        """Returns the runs of a series."""
        return self.runs[self.runs[self.by] == label]

    def varies_within(self, column: str) -> bool:
        """Returns whether a column has several values in some series."""
        return bool((self.runs.groupby(self.by)[column].nunique() > 1).any())


def options_of(subject: Subject, law: Law) -> dict[str, Any]:
    """Returns the caller's arguments for the fit of a law; of the parameters to hold, those that it has."""
    options = dict(subject.options.fit_options)
    held = {name: value for name, value in options.pop("hold", {}).items() if name in law.params}
    return options | ({"hold": held} if held else {})


def study_table(source: str, table: pd.DataFrame, options: ReportOptions) -> Subject:
    """Returns what a report on a table is about.

    Args:
      source: the table's store, import or file.
      table: its rows in our column names, as `read_table` returns them.
      options: of the caller.

    Raises:
      AnalysisError: a column is missing, or no row is usable.
      CorruptStoreError: a record of the store cannot be read.
    """
    from scaling.store.store import Store

    store = Store(source)
    store_or_none = store if (store.path / "study.json").exists() else None
    study: Any = store.study if store_or_none else {"metric": METRIC, "fit": FitSpec().model_dump()}
    records = store.records() if store_or_none else {}
    target = options.target or study["metric"]
    if store_or_none and records and target not in table.columns:
        raise suggest_name("--target", target, table.columns)
    if store_or_none and not records:
        raise AnalysisError(f"store {source!r} has no complete cell with {target!r}; run the study first")
    known = {facts.name: facts for record in records.values() for facts in record.data.metrics}.values()
    facts = facts_of(target, known)
    lower = not options.higher_is_better if options.higher_is_better is not None else is_lower_better(target, known)
    by = options.by or ("label" if "label" in table.columns else ALL)
    if by != ALL and by not in table.columns:
        raise suggest_name("--by", by, table.columns)
    runs, left_out, _ = select_rows(table, [target])
    left_out = {reason: count for reason, count in left_out.items() if reason != "not the final row"}
    if runs.empty:
        reasons = ", ".join(f"{count} where {reason}" for reason, count in left_out.items()) or "it is empty"
        raise AnalysisError(f"{source!r} has no usable row with {target!r} ({reasons}); run more, or keep other rows")
    runs = runs.assign(**{name: read_numbers(runs, name) for name in (*AMOUNTS, target) if name in runs.columns})
    runs = runs.assign(**{by: ALL if by == ALL else fill_names(runs, by)[by].map(_name_series)})
    labels = tuple(dict.fromkeys(runs[by]))
    if options.baseline is not None and options.baseline not in labels:
        raise suggest_name("--baseline", options.baseline, labels)
    measure = read_measure(target, known, lower_is_better=lower)
    runs = measure.add_to(runs)
    notices = [*provenance_of(table).said]
    notices += [] if any(name in runs.columns for name in AMOUNTS) else [_ask_for_amounts(table)]
    if measure.is_shortfall:
        notices.append(f"{target} rises: laws, which fall, are fitted to {measure.name}, and slopes are of it")
    elif not lower:
        notices.append(f"{target} rises, and nothing that falls is known to follow from it: no law is fitted")
    return Subject(
        name=study.get("name", PurePath(source).name),
        question=study.get("question", ""),
        source=source,
        table=table,
        runs=runs,
        left_out=left_out,
        target=target,
        measure=measure,
        unit=_name_unit(target, facts, runs, study) if store_or_none else "",
        by=by,
        labels=labels,
        baseline=options.baseline or labels[0],
        data_unit=str(runs["data_unit"].dropna().iloc[0]) if _has(runs, "data_unit") else "data",
        varying=_find_varying(runs, by, options.settings),
        declared={**study["fit"], **options.fit},
        options=options,
        store=store_or_none,
        records=records,
        notices=tuple(notices),
    )


def _ask_for_amounts(table: pd.DataFrame) -> str:
    from pandas.api.types import is_numeric_dtype

    others = [str(name) for name in table.columns if is_numeric_dtype(table[name])]
    listed = f"{', '.join(others[:MOST_NAMED])}{' …' if len(others) > MOST_NAMED else ''}"
    return (
        f"the table has none of {', '.join(AMOUNTS)}, so that nothing is known to vary: say what they are called, "
        f"--column num_params=THEIRS; its columns of numbers are {listed or 'none'}"
    )


def _name_series(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _has(table: pd.DataFrame, column: str) -> bool:
    return column in table.columns and bool(table[column].notna().any())


def _name_unit(target: str, facts: MetricFacts | None, runs: pd.DataFrame, study: Mapping[str, Any]) -> str:
    if facts is None:
        return ""
    is_regression = _has(runs, "rmse")
    labels = {
        label
        for series in study.get("series", ())
        for cell in series["cells"]
        if (label := cell["data"]["source"].get("label")) and isinstance(label, str)
    }
    noun = labels.pop() if len(labels) == 1 else "labels"
    if facts.name == "rmse":
        return f"unit of {noun}"
    if facts.name == "loss":
        return f"square of {noun}" if is_regression else "nats"
    return facts.unit


def _find_varying(runs: pd.DataFrame, by: str, asked: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of amounts and of settings with several values; of columns that say the same, one."""
    import pandas as pd

    for name in asked:
        read_numbers(runs, name)
    paths = [name for name in runs.columns if "." in str(name) and name not in COUNTED]
    numeric = [name for name in paths if pd.api.types.is_numeric_dtype(runs[name]) and runs[name].dtype != bool]
    names = dict.fromkeys((*AMOUNTS, *asked, *SETTINGS, *numeric))
    return tuple(name for name in names if name in runs.columns and name != by and runs[name].nunique() > 1)
