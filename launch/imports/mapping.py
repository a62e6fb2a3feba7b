"""From their names to the tidy table's: an explicit mapping, and what it makes of a folder of raw runs."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from analysis.tables.expressions import Expression, read_expression
from analysis.tables.numbers import read_column, read_plain
from analysis.tables.states import Status
from launch.imports.raw import RawFolder, RawRun
from launch.imports.rows import TEXTS, Read, RunRows, build_rows
from scaling.specs.base import InputError, Spec, suggest, suggest_near
from scaling.store.columns import CONTRACT, GROUP, Derived, is_part, order_columns

if TYPE_CHECKING:
    import pandas as pd

OURS = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]*")
SET_BY_IMPORT = ("cell", "is_final")
# Columns whose numbers are counts, and are written whole where they are.
COUNTS = ("step", "seed", "num_params", GROUP, "data_seen", "data_unique", "batch_size", "num_devices")
MAX_EXACT = 2.0**53
LIKENESS = 0.85  # to a column of ours, from which on a name is taken for a slip and not for another metric


class TableMapping(Spec):
    """What `mapping.json` says.

    Attributes:
      columns: our column to an expression of theirs.
      optional: columns that may be empty; a row that lacks another column is dropped, and counted.
      derive: columns computed by C = 6 N D.
      statuses: their words for how a run stands, in lower case, to ours; beside those that are known.
    """

    schema_version: Literal[1] = 1
    columns: dict[str, str]
    optional: tuple[str, ...] = ()
    derive: tuple[Derived, ...] = ()
    statuses: dict[str, Status] = Field(default_factory=dict)

    def change(self, pairs: Sequence[str], derive: Sequence[str]) -> "TableMapping":
        """Returns the mapping with `NAME=EXPRESSION` or `NAME?=EXPRESSION` pairs laid over it.

        Raises:
          InputError: a pair cannot be read.
        """
        columns, optional = dict(self.columns), list(self.optional)
        for pair in pairs:
            name, equals, text = pair.partition("=")
            name, text = name.strip(), text.strip()
            if not (equals and name and text):
                raise InputError(f"--column {pair!r} is no pair; write --column NAME=THEIRS, say loss=summary.val_loss")
            plain = name.removesuffix("?")
            optional = [other for other in optional if other != plain] + [plain] * (plain != name)
            columns[plain] = text
        derived = tuple(dict.fromkeys([*self.derive, *derive]))
        document = {**self.model_dump(), "columns": columns, "optional": tuple(optional), "derive": derived}
        return TableMapping.model_validate(document)


class Dropped(Spec):
    """Rows of a run that the table lacks, and why; without rows where the run had none to begin with."""

    run: str
    rows: int
    reason: str


class MappingReport(Spec):
    """What became of the runs.

    Attributes:
      runs, rows: in the table.
      runs_found: in the folder.
      statuses: runs of the table by status; empty where the source does not say.
      columns: the mapping with full names.
      dropped: what is not in the table.
      notices: what a person should know.
    """

    runs_found: int
    runs: int
    rows: int
    statuses: dict[str, int]
    columns: dict[str, str]
    dropped: tuple[Dropped, ...]
    notices: tuple[str, ...]

    def reasons(self) -> dict[str, tuple[int, int]]:
        """Returns how many runs and rows were dropped, by reason."""
        found: dict[str, tuple[int, int]] = {}
        for one in self.dropped:
            runs, rows = found.get(one.reason, (0, 0))
            found[one.reason] = (runs + 1, rows + one.rows)
        return found


def resolve(mapping: TableMapping, names: Collection[str]) -> dict[str, Expression]:
    """Returns the mapping's expressions with full names; `step` follows from the source's own where rows are steps.

    Raises:
      InputError: a name of theirs is unknown, one of ours is misspelt or set by the import, or values of a run's end
        would stand beside rows of its history.
    """
    expressions = {}
    for ours, text in mapping.columns.items():
        _check_ours(ours)
        expressions[ours] = read_expression(text, names, f"--column {ours}")
        if ours not in TEXTS and expressions[ours].factors[0].kind == "text":
            raise InputError(f"--column {ours}={text}: the column holds numbers; give one, or a name of theirs")
    for ours in mapping.optional:
        if ours not in expressions:
            raise InputError(f"optional column {ours!r} is not mapped; {suggest(ours, expressions)}")
    by_row = [ours for ours, one in expressions.items() if _is_by_row(one)]
    if by_row and "loss" in expressions and "loss" not in by_row:
        ours = by_row[0]
        name = next(factor.value for factor in expressions[ours].factors if factor.is_plain_history())
        raise InputError(
            f"--column {ours}={mapping.columns[ours]}: is of every row of a history, but loss is of the run's end; "
            f"write last({name}), or take loss from the history"
        )
    if by_row and "step" not in expressions and "history._step" in names:
        expressions["step"] = read_expression("history._step", names, "--column step")
    return expressions


def _is_by_row(expression: Expression) -> bool:
    return any(factor.is_plain_history() for factor in expression.factors)


def _check_ours(name: str) -> None:
    if name in SET_BY_IMPORT:
        raise InputError(f"--column {name}: is set by the import; leave it out")
    if not OURS.fullmatch(name):
        raise InputError(f"--column {name!r}: must be letters, digits and _ . - /, beginning with a letter")
    if name not in CONTRACT and not is_part(name) and (remedy := suggest_near(name, CONTRACT, LIKENESS)):
        raise InputError(f"--column {name}: the table has no {name!r}; {remedy}")


def build_table(
    folder: RawFolder, mapping: TableMapping, runs: Sequence[RawRun]
) -> tuple["pd.DataFrame", MappingReport]:
    """Returns the tidy table of a folder's runs in the contract's order of columns, and what was dropped.

    A mapping that reads histories gives a row for each row of a history that has what `loss` needs (what all columns
    need, where `loss` is not mapped); another gives one row a run. The last of a run's rows is final.

    Raises:
      InputError: the mapping cannot be applied, or a run's state is unknown.
    """
    import numpy as np
    import pandas as pd

    from analysis.tables.columns import derive_columns

    names = collect_names(runs)
    expressions = resolve(mapping, names)
    study = folder.origin().study
    read, told = _read_texts(expressions, runs)
    dropped: list[Dropped] = []
    parts: list[RunRows] = []
    status_name = next(iter(expressions["status"].names()), "") if "status" in expressions else ""
    has_status = "status" in expressions or any(run.state is not None for run in runs)
    for run in runs:
        rows = build_rows(folder, run, expressions, mapping.optional, read)
        dropped.extend(Dropped(run=run.id, rows=count, reason=reason) for reason, count in rows.dropped.items())
        if rows.num_rows:
            if has_status:
                rows.set_status(mapping.statuses, status_name)
            parts.append(rows)
    columns: dict[str, Any] = {}
    for ours in order_columns([*expressions, "study", "cell", "is_final", *(["status"] if has_status else [])]):
        if ours == "study" and ours not in expressions:
            columns[ours] = np.repeat(np.array([study], dtype=object), sum(part.num_rows for part in parts))
        else:
            columns[ours] = _tidy(ours, [part.columns[ours] for part in parts])
    table = pd.DataFrame(columns)
    if mapping.derive:
        derived = derive_columns(table, mapping.derive)
        table = derived[order_columns(list(derived.columns))]
    notices = [*told, *(f"{run.id}: {notice}" for run in runs for notice in run.notices)]
    lost = sum(not part.columns["is_final"].any() for part in parts)
    if lost:
        notices.append(f"{lost} runs lack their final row, which was dropped; no fit of final rows sees them")
    counts: dict[str, int] = {}
    for part in parts:
        if has_status:
            counts[str(part.columns["status"][0])] = counts.get(str(part.columns["status"][0]), 0) + 1
    if runs and not has_status:
        notices.append("the source does not say how runs ended; all count as complete, also those that were killed")
    report = MappingReport(
        runs_found=len(runs), runs=len(parts), rows=len(table), statuses=counts,
        columns={ours: one.render() for ours, one in expressions.items()}, dropped=tuple(dropped),
        notices=tuple(notices),
    )  # fmt: skip
    return table, report


def _read_texts(expressions: Mapping[str, Expression], runs: Sequence[RawRun]) -> tuple[Read, list[str]]:
    """Returns what `count` and `number` read of values that runs have once, and what to say of it.

    All runs together decide what a comma is.
    """
    wanted: dict[tuple[str, str], Literal["count", "number"]] = {
        (factor.function, factor.value): factor.function
        for expression in expressions.values()
        for factor in expression.factors
        if factor.function in ("count", "number") and not factor.is_history()
    }
    read, told = dict[tuple[str, str], dict[str, float | None]](), []
    scalars = [run.scalars() for run in runs] if wanted else []
    for key, kind in wanted.items():
        values = [of.get(key[1]) for of in scalars]
        found = read_column(values, kind=kind)
        read[key] = {
            run.id: None if value is None or bad or (number != number and read_plain(value) is None) else number
            for run, value, number, bad in zip(runs, values, found.values.tolist(), found.bad.tolist(), strict=True)
        }
        told += [f"{key[1]}: {one}" for one in found.said]
    return read, told


def _tidy(ours: str, arrays: Sequence[Any]) -> Any:
    import numpy as np

    values = np.concatenate(arrays) if arrays else np.array([], dtype=object if ours in TEXTS else float)
    is_count = ours.startswith(COUNTS) and values.dtype == np.float64 and len(values)
    if is_count and np.isfinite(values).all() and (values == np.rint(values)).all() and abs(values).max() < MAX_EXACT:
        return values.astype(np.int64)
    return values


def collect_names(runs: Sequence[RawRun]) -> dict[str, int]:
    """Returns all full names of their values, with how many runs have each."""
    counts: dict[str, int] = {}
    for run in runs:
        named = [name for name, value in run.scalars().items() if value is not None]
        for name in (*named, *(f"history.{name}" for name in run.history_columns)):
            counts[name] = counts.get(name, 0) + 1
    return counts
