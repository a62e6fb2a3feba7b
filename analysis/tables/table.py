"""The tidy table: records of a store, or anybody's table, as one DataFrame in our names, and the rows a fit may use."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError, suggest_name
from analysis.tables.columns import as_numbers, check_columns, derive_columns, keep_rows, read_numbers
from analysis.tables.computed import compute_columns
from analysis.tables.copies import find_copies
from analysis.tables.csv_text import write_csv
from analysis.tables.files.content import first_line
from analysis.tables.order import last_of as take_last
from analysis.tables.provenance import Table, attach, note, provenance_of, say
from analysis.tables.runs import best_over as take_best
from analysis.tables.runs import find_unfinished, recognise_checkpoints
from analysis.tables.sources import open_source
from analysis.tables.states import find_state_column, translate_states
from analysis.tables.units import check_compute
from scaling.specs.metrics import is_lower_better
from scaling.store.columns import CONVENTION, GROUP, TERM, TOTAL, Derived

# Counts that a file may leave out; a measurement that is no number is called NaN instead.
COUNTS = ("num_params", GROUP, "data_", "epochs", "train_flops", TERM, "step", "batch_size", "seed")
IDENTITY = ("study", "cell", "label", "step", "seed")
COPIES = "the same as another row"
PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
WRITTEN = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
# Whoever needs all three relies on C = 6 N D.
COMPUTE = {"num_params", "data_seen", "train_flops"}
# What tells rows apart that a law's variables do not; and fits are of rows in this order.
TELLS_APART = ("label", "seed", "trunk", "cell", "step")


def read_table(
    source: Any,
    columns: Mapping[str, str] | None = None,
    derive: Iterable[Derived] | Derived = (),
    keep: Iterable[str] = (),
    *,
    all_fields: bool = False,
    name: str | None = None,
    sheet: str | None = None,
    last_of: str | None = None,
    best_over: Sequence[str] | str = (),
    target: str = "loss",
    lower_is_better: bool | None = None,
    copies: Literal["once", "all"] = "once",
) -> Table:
    """Returns the table of a store, an import, files, or of what another library holds, in the order of its arguments.

    `provenance.conventions` tells what was computed, derived and taken away, and a fit records it;
    `provenance.said` has a sentence for whatever was guessed, converted or doubted on the way.

    Args:
      source: A store (local folder or `gs://` address), a folder of imported runs, a file or several or a pattern such
        as `curves/*.csv` (.csv, .tsv, .txt, .json, .jsonl, .parquet, Excel; packed by gzip, bzip2, xz or zstd too), a
        DataFrame of pandas or polars, an Arrow table, a list of mappings, or the runs of `wandb.Api().runs(…)`.
      columns: Our name to theirs, or to what is made of theirs: `{"num_params": "count(Size)", "data_seen":
        "`Tokens (B)`*1e9"}`; see `computed.compute_columns`.
      derive: Of `data_seen`, `num_params` and `train_flops`: computed from the two others by C = 6 N D.
      keep: Rules `COLUMN OP VALUE` in our names, for example `loss<3.44`; only such rows are returned.
      all_fields: Of a store: whether also those fields of the cells are columns that are the same in every cell.
      name: Settings that file names, or the names of runs in a column, hold: `curve_N{num_params}_D{data_seen}.csv`.
      sheet: Of a file of sheets: which one.
      last_of: A column that names runs, of each of which the last row is returned.
      best_over: Settings, of whose values at each point the row of the best target is returned.
      target: What is best for `best_over`.
      lower_is_better: Of the target; by default what is known of it.
      copies: Whether rows that repeat another one in everything count `once` in a fit, or `all` of them.

    Raises:
      AnalysisError: if the file is missing, cannot be read or is of an unknown kind; if a column is missing, would
        appear twice, or holds text where numbers are needed; if a rule cannot be read.

    >>> read_table([{"N": "70M", "loss": 3.1}], {"num_params": "count(N)"})["num_params"].tolist()
    [70000000.0]
    """
    table = compute_columns(open_source(source, all_fields=all_fields, name=name, sheet=sheet), columns or {})
    table = _read_states(table, table.provenance.columns.get("status", "status"))
    table = derive_columns(table, [derive] if isinstance(derive, str) else derive)
    table = keep_rows(table, [keep] if isinstance(keep, str) else keep)
    if last_of is not None:
        rows, sentence = take_last(table, last_of)
        table = say(note(rows, f"last of {last_of}", sentence), sentence)
    if settings := [best_over] if isinstance(best_over, str) else list(best_over):
        lower = is_lower_better(target) if lower_is_better is None else lower_is_better
        rows, sentence = take_best(table, settings, target, lower_is_better=lower)
        table = say(rows, sentence)
    if copies not in ("once", "all"):
        raise suggest_name("copies", copies, ["once", "all"])
    table = attach(table, replace(table.provenance, counts_copies=copies == "all"))
    return table if "is_final" in table.columns else say(table, recognise_checkpoints(table))


def _read_states(table: Table, name: str) -> Table:
    """Returns the table with how its runs stand in our words, or a sentence about a column that seems to say it.

    Args:
      table: Any table.
      name: What its column of states was called, which tells what true and false mean.
    """
    if "status" in table.columns:
        status, sentence = translate_states(table["status"].rename(name.strip("`")))
        if sentence is None:
            return table
        translated = attach(table.assign(status=status.to_numpy()), table.provenance)
        return say(note(translated, "status", sentence.partition(": ")[2]), sentence)
    theirs = find_state_column(table)
    if theirs is None or translate_states(table[theirs])[0].dropna().eq("ok").all():
        return table
    counts = ", ".join(f"{count} {state}" for state, count in table[theirs].value_counts().items())
    return say(
        table, f"{theirs!r} seems to say how runs ended ({counts}), and all count: --column 'status={theirs}' uses it"
    )


def select_rows(
    table: pd.DataFrame, needed: Sequence[str], *, positive: Iterable[str] = (), only_final: bool = True
) -> tuple[pd.DataFrame, dict[str, int], str]:
    """Returns the rows a fit may use, how many others there are by reason, and the rule in words.

    A row counts when `is_final` is true and `status` is ok, where those columns exist, and every needed column is a
    finite number. Each other row is counted once, at the first reason that holds; final rows come first, so that
    `status is diverged` counts runs and not evaluations. Rows that repeat another one in everything count once, unless
    the table was read to count all.

    Args:
      table: Rows in the contract's columns.
      needed: Columns that must be finite numbers: the law's variables, then the target.
      positive: Those of them that must be above 0 too, as logarithms need.
      only_final: Whether evaluations before the last one are left out.

    Raises:
      AnalysisError: if a needed column is missing or holds text; if usable rows measure a cell twice and differ, mix
        units of data, or mix ways of counting N where that is needed; if N, D and C are needed and cannot be in the
        units of one another.

    >>> table = pd.DataFrame({"status": ["ok", "diverged", "ok"], "loss": [3.0, 9.0, float("nan")]})
    >>> select_rows(table, ["loss"])[1]
    {'status is diverged': 1, 'loss is NaN': 1}
    """
    check_columns(table, [*needed, *positive])
    left_out: dict[str, int] = {}
    keep, rules = np.ones(len(table), dtype=bool), []

    def leave_out(bad: NDArray[np.bool_], reason: str) -> None:
        nonlocal keep
        if count := int((keep & bad).sum()):
            left_out[reason] = left_out.get(reason, 0) + count
        keep = keep & ~bad

    rules += ["is_final"] if only_final and "is_final" in table.columns else []
    rules += ["status is ok"] if "status" in table.columns else []
    for reason, bad in find_unfinished(table, only_final=only_final):
        leave_out(bad, reason)
    above, finite = list(dict.fromkeys(positive)), []
    for name in dict.fromkeys([*needed, *above]):
        values = read_numbers(table, name)
        leave_out(np.isnan(values), f"{name} is {'missing' if name.startswith(COUNTS) else 'NaN'}")
        leave_out(np.isinf(values), f"{name} is infinite")
        if name in above:
            leave_out(values <= 0, f"{name} is zero or negative")
        finite.append(name)
    rules.append(f"{', '.join(finite)} finite" + (f" and {', '.join(above)} > 0" if above else ""))
    rows = table[keep]
    _check_units(rows)
    if set(needed) >= COMPUTE and (sentence := check_compute(rows, provenance_of(table).columns)):
        raise AnalysisError(sentence)
    if "num_params" in needed and (counted := _read_convention(rows)) != "total":
        rules.append(f"num_params counted as {counted}")
    done = [f"{name}: {text}" for name, text in provenance_of(table).conventions.items()]
    if not provenance_of(table).counts_copies:
        again, sentence = _find_copies(rows, finite)
        if sentence is not None:
            left_out[COPIES] = int(again.sum())
            rows, done = rows[~again], [f"counted once: {sentence}", *done]
        _check_copies(rows, IDENTITY if only_final else (*IDENTITY, "data_seen"))
    return rows, left_out, "; ".join([" and ".join(rules), *done])


def _find_copies(rows: pd.DataFrame, needed: Sequence[str]) -> tuple[NDArray[np.bool_], str | None]:
    """Returns which rows repeat another one `[n]`, and a sentence; most tables are cleared by a look at few columns."""
    none = np.zeros(len(rows), dtype=bool)
    some = rows.duplicated(list(needed), keep=False).to_numpy()
    if not some.any():
        return none, None
    suspects = rows[some] if rows.index.is_unique else rows[some].set_axis(np.flatnonzero(some))  # for their numbers
    found = find_copies(suspects)
    none[np.flatnonzero(some)[found.again]] = True
    return none, found.said


def sort_rows(rows: pd.DataFrame, needed: Sequence[str]) -> pd.DataFrame:
    """Returns rows in ascending order of the variables, of what else tells them apart, and of the target.

    A fit of rows in this order does not depend on the table's, to the last digit of its intervals.

    Args:
      rows: Usable rows.
      needed: The law's variables, then the target.
    """
    names = [*needed[:-1], *(name for name in TELLS_APART if name in rows.columns and name not in needed), *needed[-1:]]
    keys = []
    for name in names:
        numbers = as_numbers(rows[name])
        keys.append(rows[name].astype(str).to_numpy(dtype=str) if numbers is None else numbers)
    return rows.iloc[np.lexsort(keys[::-1])] if keys else rows


def _check_units(rows: pd.DataFrame) -> None:
    if "data_unit" in rows.columns and rows["data_unit"].nunique() > 1:
        counts = rows["data_unit"].value_counts()
        listed = " and ".join(f"{count} rows in {unit}" for unit, count in counts.items())
        raise AnalysisError(
            f"data_unit: the table mixes {listed}, which no law compares; keep one with "
            f"--keep data_unit=={counts.index[0]}"
        )


def _read_convention(rows: pd.DataFrame) -> str:
    """Returns how all rows count N; rows that do not say it count everything."""
    if CONVENTION not in rows.columns or rows.empty:
        return "total"
    counts = rows[CONVENTION].fillna("total").value_counts()
    if len(counts) > 1:
        listed = " and ".join(f"{count} rows as {name}" for name, count in counts.items())
        raise AnalysisError(
            f"num_params: the table counts {listed}, which no law compares; keep one with "
            f"--keep {CONVENTION}=={counts.index[0]}, or fit the column {TOTAL} (--variables)"
        )
    return str(counts.index[0])


def _check_copies(rows: pd.DataFrame, identity: Sequence[str]) -> None:
    """Refuses rows that measure one cell twice under one label, and differ: only one of them can be right."""
    if "cell" not in rows.columns:
        return
    names = [name for name in identity if name in rows.columns]
    again = rows[rows["cell"].notna() & rows.duplicated(names)]
    if len(again):
        first = ", ".join(f"{name}={again.iloc[0][name]}" for name in names)
        raise AnalysisError(
            f"{len(again)} rows measure a cell that another row measures, and differ, the first at {first}: each would "
            "count twice; --last-of cell takes the last of each, or remove those that are wrong"
        )


def fingerprint_table(table: pd.DataFrame) -> str:
    """Returns the sha256 of the table's column names, kinds and values, in order.

    Numbers are hashed as 64-bit values and text as UTF-8, so a table keeps its fingerprint through Parquet or memory.
    The index does not count; missing values are all alike.

    >>> fingerprint_table(pd.DataFrame({"loss": [1.0, 2.0]}))[:12]
    '93712126d9eb'
    """
    digest = hashlib.sha256()
    for name in table.columns:
        column = table[name]
        digest.update(f"{name}\x1f".encode())
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            # integers and floats alike: a CSV that holds 100 or 100.0 is the same table
            values = column.to_numpy(dtype="<f8", na_value=np.nan)
            digest.update(np.where(np.isnan(values), np.nan, values + 0.0).astype("<f8").tobytes())
        else:
            digest.update("\x1e".join("\x00" if pd.isna(item) else str(item) for item in column).encode())
        digest.update(b"\x1d")
    return digest.hexdigest()


def write_table(table: pd.DataFrame, path: str) -> None:
    """Writes the table, in the form and packing that the name says; read back, numbers are exactly equal.

    Args:
      table: Any table.
      path: Ends in .csv, .tsv, .jsonl, .json or .parquet; those of text may be packed, as in .csv.gz.

    Raises:
      AnalysisError: on another suffix, or a value that the form cannot hold.
    """
    packing = next((end for end in PACKERS if path.lower().endswith(end)), "")
    suffix = Path(path[: len(path) - len(packing)]).suffix.lower()
    if suffix not in WRITTEN or (packing and suffix == ".parquet"):
        raise AnalysisError(
            f"path={path!r} has suffix {Path(path).suffix!r}; choose .csv, .parquet or .jsonl, also .tsv or .json, "
            f"those of text packed as {', '.join(PACKERS)} where you like"
        )
    if suffix == ".parquet":
        try:
            pd.DataFrame(table).to_parquet(path, index=False)
        except (ValueError, TypeError) as error:  # what Arrow raises on columns of several kinds
            raise AnalysisError(f"path={path!r}: {first_line(error)}; write .jsonl instead") from None
    elif suffix == ".csv" and not packing:
        write_csv(table, path)
    else:
        Path(path).write_bytes(PACKERS.get(packing, bytes)(_render(table, suffix).encode()))


def _render(table: pd.DataFrame, suffix: str) -> str:
    if suffix in (".csv", ".tsv"):
        return table.to_csv(index=False, sep="," if suffix == ".csv" else "\t")
    # pandas' to_json keeps only 15 digits
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    lines = [json.dumps(row, default=_encode) for row in records]
    return "".join(f"{line}\n" for line in lines) if suffix == ".jsonl" else "[" + ",\n ".join(lines) + "]\n"


def _encode(value: Any) -> Any:
    """Returns a value that JSON has no form for in one that it has: dates and times as text, numbers as such."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.tolist() if hasattr(value, "tolist") else str(value) if isinstance(value, bytes) else float(value)
