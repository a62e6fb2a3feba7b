"""The tidy table: records of a store, or anybody's CSV, Parquet or JSONL file, as one DataFrame in our column names."""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.laws import AnalysisError, suggest_name

# From pandas 3.1 floats are read exactly and the option is deprecated; before, the default could lose the last digit.
EXACT: dict[str, Any] = (
    {} if (*map(int, pd.__version__.split(".")[:2]),) >= (3, 1) else {"float_precision": "round_trip"}
)
Reader = Callable[[Any], pd.DataFrame]
READERS: dict[str, Reader] = {
    ".csv": lambda path: pd.read_csv(path, **EXACT),
    ".gz": lambda path: pd.read_csv(path, **EXACT),
    ".parquet": pd.read_parquet,
    ".jsonl": lambda path: pd.DataFrame(
        [json.loads(line) for line in Path(path).read_text("utf-8").splitlines() if line]
    ),
}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
EXPRESSION = re.compile(r"^\s*([^<>=!]+?)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*$")


def load_table(source: str, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Returns the table of a store folder or of a .csv, .csv.gz, .parquet or .jsonl file.

    Args:
      source: A store (local folder or `gs://` address) or a file.
      columns: Our name to theirs, for example `{"loss": "their_loss"}`; those columns are renamed.

    Raises:
      AnalysisError: if the file is missing or of an unknown kind, or a column is missing or would appear twice.
    """
    path = Path(source)
    if "://" in source or path.is_dir():
        from scaling.record import Store

        table = pd.DataFrame(list(Store.open(source).rows()))
    elif path.suffix not in READERS:
        raise AnalysisError(
            f"source={source!r} is neither a folder nor a {', '.join(READERS)} file; convert it to .csv"
        )
    elif not path.is_file():
        raise AnalysisError(f"source={source!r} does not exist; give a store folder or a {', '.join(READERS)} file")
    else:
        table = READERS[path.suffix](source)
    for ours, theirs in (columns or {}).items():
        if theirs not in table.columns:
            raise suggest_name(f"--column {ours}=THEIRS names a column that is missing: THEIRS", theirs, table.columns)
        if ours != theirs and ours in table.columns:
            raise AnalysisError(
                f"--column {ours}={theirs} would give two columns {ours!r}; drop or rename theirs first"
            )
    return table.rename(columns={theirs: ours for ours, theirs in (columns or {}).items()})


def keep_rows(table: pd.DataFrame, expressions: Iterable[str]) -> pd.DataFrame:
    """Returns the rows that satisfy every `COLUMN OP VALUE`, with OP one of < <= > >= == !=.

    Nothing is evaluated as code. A value that reads as a number is compared as one where the column holds numbers.

    Raises:
      AnalysisError: if an expression cannot be read, names no column, or orders text against a number.

    >>> keep_rows(pd.DataFrame({"loss": [3.0, 4.0]}), ["loss<3.44"])["loss"].tolist()
    [3.0]
    """
    for expression in expressions:
        match = EXPRESSION.match(expression)
        if match is None:
            raise AnalysisError(
                f"--keep {expression!r} must be COLUMN OP VALUE with OP in < <= > >= == !=; like loss<3.44"
            )
        name, sign, text = match.groups()
        if name not in table.columns:
            raise suggest_name("--keep column", name, table.columns)
        table = table[OPERATORS[sign](table[name], read_value(table[name], sign, text))]
    return table


def read_value(column: pd.Series, sign: str, text: str) -> object:
    """Returns the value that `text` means beside this column: a truth value, a number or text without its quotes."""
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if pd.api.types.is_bool_dtype(column):
        if text.lower() in ("true", "false") and sign in ("==", "!="):
            return text.lower() == "true"
        raise AnalysisError(
            f"--keep {column.name}{sign}{text}: the column holds true and false; use =={True} or =={False}"
        )
    if pd.api.types.is_numeric_dtype(column):
        try:
            return float(text)
        except ValueError:
            raise AnalysisError(f"--keep {column.name}{sign}{text}: the column holds numbers; give a number") from None
    if sign not in ("==", "!="):
        raise AnalysisError(f"--keep {column.name}{sign}{text}: the column holds text; use == or !=")
    return text


def select_rows(table: pd.DataFrame, needed: Sequence[str]) -> tuple[pd.DataFrame, int, str]:
    """Returns the rows a fit may use, how many were left out, and the rule in words.

    A row counts when `status` is ok and `is_final` is true, where those columns exist, and every needed column is a
    finite number. The order of rows does not matter to a fit.

    Raises:
      AnalysisError: if a needed column is missing or holds text.
    """
    keep, rules = np.ones(len(table), dtype=bool), []
    if "status" in table.columns:
        keep &= (table["status"] == "ok").to_numpy(dtype=bool)
        rules.append("status is ok")
    if "is_final" in table.columns:
        keep &= table["is_final"].fillna(False).to_numpy().astype(bool)
        rules.append("is_final")
    for name in needed:
        if name not in table.columns:
            raise suggest_name("column", name, table.columns)
        try:
            values = table[name].to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError):
            raise AnalysisError(
                f"column {name!r} holds text such as {table[name].iloc[0]!r}; it must hold numbers"
            ) from None
        keep &= np.isfinite(values)
    rules.append(f"{', '.join(needed)} finite")
    return table[keep], int((~keep).sum()), " and ".join(rules)


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
        table.to_csv(path, index=False)
    elif suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif suffix == ".jsonl":
        records = table.astype(object).where(table.notna(), None).to_dict("records")
        text = "".join(json.dumps(row, default=float) + "\n" for row in records)  # to_json keeps only 15 digits
        Path(path).write_text(text, encoding="utf-8")
    else:
        raise AnalysisError(f"path={path!r} has suffix {suffix!r}; choose .csv, .parquet or .jsonl")
