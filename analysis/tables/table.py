"""The tidy table: records of a store, or anybody's CSV, TSV, Parquet or JSONL file, as one DataFrame in our names."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.tables.columns import CONVENTIONS, derive_columns, keep_rows, read_numbers, rename_columns
from analysis.tables.csv_text import write_csv
from scaling.store.arrays import is_mixed, to_values
from scaling.store.columns import CONVENTION, GROUP, TERM, TIMES, TOTAL

if TYPE_CHECKING:
    import pyarrow as pa
    from etils import epath

# From pandas 3.1 floats are read exactly and the option is deprecated; before, the default could lose the last digit.
EXACT: dict[str, Any] = (
    {} if (*map(int, pd.__version__.split(".")[:2]),) >= (3, 1) else {"float_precision": "round_trip"}
)
READERS: dict[str, Callable[[io.BytesIO], pd.DataFrame]] = {
    ".csv": lambda file: pd.read_csv(file, **EXACT),
    ".tsv": lambda file: pd.read_csv(file, sep="\t", **EXACT),
    ".parquet": pd.read_parquet,
    ".jsonl": lambda file: pd.DataFrame([json.loads(line) for line in file.read().decode().splitlines() if line]),
}
SUFFIXES = ", ".join(READERS)
# What tells a folder of imported runs, and the table that was made of them; see docs/import.md.
IMPORT = ("import.json", "table.parquet")
# Counts that a file may leave out; a measurement that is no number is called NaN instead.
COUNTS = ("num_params", GROUP, "data_", "epochs", "train_flops", TERM, "step", "batch_size", "seed")
IDENTITY = ("study", "cell", "label", "step", "seed")


def read_table(
    source: str | PurePath | pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    derive: Iterable[str] = (),
    keep: Iterable[str] = (),
    *,
    all_fields: bool = False,
) -> pd.DataFrame:
    """Returns the table of a store, an import, a .csv, .tsv, .parquet or .jsonl file (also with .gz), or a DataFrame.

    `attrs["conventions"]` tells what was derived and how many rows `keep` took away; `select_rows` passes it on, so
    that a fit records it.

    Args:
      source: A store (local folder or `gs://` address), a folder of imported runs, a file, or a table.
      columns: Our name to theirs, for example `{"num_params": "Model Size"}`; those columns are renamed.
      derive: Of `data_seen`, `num_params` and `train_flops`: computed from the two others by C = 6 N D.
      keep: Rules `COLUMN OP VALUE` in our names, for example `loss<3.44`; only such rows are returned.
      all_fields: Of a store: whether also those fields of the cells are columns that are the same in every cell.

    Raises:
      AnalysisError: if the file is missing, cannot be read or is of an unknown kind; if a column is missing, would
        appear twice, or holds text where numbers are needed; if a rule cannot be read.
    """
    table = source.copy(deep=False) if isinstance(source, pd.DataFrame) else _open(str(source), all_fields)
    table = rename_columns(table, columns or {})
    table = derive_columns(table, [derive] if isinstance(derive, str) else derive)
    return keep_rows(table, [keep] if isinstance(keep, str) else keep)


def _open(source: str, all_fields: bool) -> pd.DataFrame:
    from etils import epath

    if source.partition("://")[0] in ("http", "https"):
        raise AnalysisError(f"source={source!r} is a web address; download the file, and give its path")
    path = epath.Path(source)
    suffix = PurePath(source.removesuffix(".gz")).suffix
    if suffix not in READERS:
        if "://" not in source and not path.is_dir():
            reason = "is neither a folder nor" if path.exists() else "does not exist; give a store folder or"
            raise AnalysisError(f"source={source!r} {reason} a {SUFFIXES} file (.gz too)")
        from scaling.store.store import Store

        Store(source)  # which says in one line why it cannot be reached
        if (path / IMPORT[0]).exists():
            return _open_import(path)
        return _to_frame(Store.open(source).columns(all_fields=all_fields))
    try:
        if not path.is_file():
            raise AnalysisError(f"source={source!r} does not exist; give a store folder or a {SUFFIXES} file")
        content = path.read_bytes()
        if source.endswith(".gz"):
            content = gzip.decompress(content)
        return READERS[suffix](io.BytesIO(content))
    except AnalysisError:
        raise
    except ImportError as error:
        raise AnalysisError(
            f"source={source!r} needs a package that is not installed ({error}); for gs:// install scaling[gcs]"
        ) from None
    except (ValueError, OSError, EOFError) as error:  # what pandas, pyarrow, json and gzip raise on broken files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AnalysisError(f"source={source!r} is no readable {suffix} file ({reason}); write it again") from None


def _to_frame(columns: dict[str, pa.ChunkedArray]) -> pd.DataFrame:
    """Returns a store's columns as pandas would have them from its rows, and gives them up."""
    frame = {}
    for name in list(columns):
        column = columns.pop(name)
        frame[name] = pd.Series(to_values(column)) if is_mixed(column) else column.to_pandas()
    return pd.DataFrame(frame)


def _open_import(path: epath.Path) -> pd.DataFrame:
    """Returns the table that `scaling import` made of other people's runs."""
    file = path / IMPORT[1]
    if not file.exists():
        raise AnalysisError(
            f"source={str(path)!r} holds imported runs and no mapping yet; run scaling import again with --column"
        )
    try:
        return pd.read_parquet(io.BytesIO(file.read_bytes()))
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AnalysisError(f"{file} cannot be read ({reason}); run scaling import again with --no-fetch") from None


def select_rows(
    table: pd.DataFrame, needed: Sequence[str], *, positive: Iterable[str] = (), only_final: bool = True
) -> tuple[pd.DataFrame, dict[str, int], str]:
    """Returns the rows a fit may use, how many others there are by reason, and the rule in words.

    A row counts when `is_final` is true and `status` is ok, where those columns exist, and every needed column is a
    finite number. Each other row is counted once, at the first reason that holds; final rows come first, so that
    `status is diverged` counts runs and not evaluations. The order of rows does not matter to a fit.

    Args:
      table: Rows in the contract's columns.
      needed: Columns that must be finite numbers: the law's variables, then the target.
      positive: Those of them that must be above 0 too, as logarithms need.
      only_final: Whether evaluations before the last one are left out.

    Raises:
      AnalysisError: if a needed column is missing or holds text; if usable rows repeat a cell, mix units of data, or
        mix ways of counting N where that is needed.

    >>> table = pd.DataFrame({"status": ["ok", "diverged", "ok"], "loss": [3.0, 9.0, float("nan")]})
    >>> select_rows(table, ["loss"])[1]
    {'status is diverged': 1, 'loss is NaN': 1}
    """
    left_out: dict[str, int] = {}
    keep, rules = np.ones(len(table), dtype=bool), []

    def leave_out(bad: NDArray[np.bool_], reason: str) -> None:
        nonlocal keep
        if count := int((keep & bad).sum()):
            left_out[reason] = left_out.get(reason, 0) + count
        keep = keep & ~bad

    if only_final and "is_final" in table.columns:
        rules.append("is_final")
        leave_out(~table["is_final"].eq(True).fillna(False).to_numpy(dtype=bool), "not the final row")
    if "status" in table.columns:
        rules.append("status is ok")
        status = table["status"].astype(object).where(table["status"].notna(), "missing").astype(str).to_numpy()
        for name in dict.fromkeys(status):
            if name != "ok":
                leave_out(status == name, f"status is {name}")
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
    if "num_params" in needed and (counted := _read_convention(rows)) != "total":
        rules.append(f"num_params counted as {counted}")
    _check_copies(rows, IDENTITY if only_final else (*IDENTITY, "data_seen"))
    done = [f"{name}: {text}" for name, text in table.attrs.get(CONVENTIONS, {}).items()]
    return rows, left_out, "; ".join([" and ".join(rules), *done])


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
    """Refuses rows that are there twice: one cell measured twice under one label, or the same row of one seed."""
    nested = [
        name
        for name in rows.columns
        if rows[name].dtype == object and rows[name].map(lambda value: isinstance(value, list | dict)).any()
    ]
    plain = [name for name in rows.columns if name not in nested]
    if "cell" in plain:
        names = [name for name in identity if name in plain]
        again = rows[rows["cell"].notna() & rows.duplicated(names)]
        remedy = f"table.drop_duplicates({names})"
    elif "seed" in plain:  # without a seed, equal rows may be two runs that measured the same
        again = rows[rows["seed"].notna() & rows.duplicated(plain)]
        remedy = "table.drop_duplicates()"
    else:
        return
    if len(again):
        first = ", ".join(f"{name}={again.iloc[0][name]}" for name in identity if name in plain)
        measured = [name for name in plain if name not in TIMES]
        alike = int(rows.duplicated(measured).sum())
        raise AnalysisError(
            f"{len(again)} rows repeat another one ({alike} measure the same), the first at {first}: each would count "
            f"twice; remove them from the file, or in Python with {remedy}"
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
    """Writes the table as .csv, .parquet or .jsonl, chosen by the suffix; read back, numbers are exactly equal.

    Raises:
      AnalysisError: on another suffix.
    """
    suffix = Path(path).suffix
    if suffix == ".csv":
        write_csv(table, path)
    elif suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif suffix == ".jsonl":
        records = table.astype(object).where(table.notna(), None).to_dict("records")
        text = "".join(json.dumps(row, default=float) + "\n" for row in records)  # to_json keeps only 15 digits
        Path(path).write_text(text, encoding="utf-8")
    else:
        raise AnalysisError(f"path={path!r} has suffix {suffix!r}; choose .csv, .parquet or .jsonl")
