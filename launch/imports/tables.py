"""Runs from a CSV, TSV, Parquet or JSONL file: a row is a run, or of a run's history where a column says of which."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.imports.fetching import Listed, LocalSource
from launch.imports.histories import build_history, encode
from launch.imports.raw import Origin, RawRun, make_run
from scaling.specs.base import InputError, fingerprint_text, suggest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# One file a run: beyond this many, the file itself is the better table.
MAX_RUNS = 20_000


class TableSource(LocalSource):
    """A file of rows.

    Args:
      kind: the file's kind as typed, `csv` or `jsonl`.
      path: the file.
      run_column: the column that says to which run a row of a history belongs; None where each row is a run. Columns
        that never change within a run are then its configuration, and the others its history.

    Raises:
      InputError: there is no such column, or the file has too many rows to be runs.
    """

    def __init__(self, kind: str, path: str, run_column: str | None) -> None:
        from analysis.tables.table import read_table

        if not Path(path).is_file():
            raise InputError(f"{kind} {path!r} does not exist; give a file")
        self._table = read_table(path)
        self._run_column = run_column
        if run_column is not None and run_column not in self._table.columns:
            known = [str(name) for name in self._table.columns]
            raise InputError(f"--run-column {run_column!r}: the file has no such column; {suggest(run_column, known)}")
        count = len(self._table) if run_column is None else self._table[run_column].nunique()
        if count > MAX_RUNS:
            raise InputError(
                f"{kind} {path!r} has {count} runs, above {MAX_RUNS}; read the file itself, "
                "scaling fit FILE --column NAME=THEIRS, or name the column of runs with --run-column"
            )
        self.origin = Origin(
            kind=kind, address=str(Path(path).resolve()), only=run_column or "", study=Path(path).name.partition(".")[0]
        )

    def list_runs(self) -> list[Listed]:
        """Returns one listed run for each row, or for each value of the run column."""
        if self._run_column is None:
            rows = self._table.to_dict("records")
            return [self._list(f"row-{i + 1:05d}", row) for i, row in enumerate(rows)]
        groups = self._table.groupby(self._run_column, sort=False, dropna=True)
        return [self._list(_name(value), rows) for value, rows in groups]

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and, where rows are of histories, its history."""
        if self._run_column is None:
            return make_run(listed.id, listed.version, None, summary=_present(listed.payload)), None
        rows: pd.DataFrame = listed.payload
        constant = [str(name) for name in self._table.columns if str(name) in self._constant()]
        history = build_history(map(_present, rows.drop(columns=constant).to_dict("records")))
        return make_run(listed.id, listed.version, None, config=_present(rows.iloc[0][constant].to_dict())), history

    def _constant(self) -> set[str]:
        if not hasattr(self, "_constants"):
            texts = self._table.astype(str)
            counts = texts.groupby(texts[self._run_column]).nunique().max()
            self._constants = {str(name) for name, count in counts.items() if count <= 1} | {str(self._run_column)}
        return self._constants

    def _list(self, name: str, payload: Any) -> Listed:
        text = payload.to_csv() if hasattr(payload, "to_csv") else repr(encode(payload))
        return Listed(name, fingerprint_text(text), payload=payload)


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _present(row: Any) -> dict[str, Any]:
    """Returns a row's values without those that the file leaves empty."""
    return {str(name): value for name, value in row.items() if value is not None and value == value}
