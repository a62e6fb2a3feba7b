"""Runs from a file that is one table: a row is a run, or of a run's history where a column says of which."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
      kind: the file's kind as typed, `csv` or `excel`.
      path: the file.
      run_column: the column that says to which run a row of a history belongs, None for the one that seems to, if
        any; empty where each row is a run. Columns that never change within a run are its configuration, and the others
        its history, in the order of its steps or times (`analysis.tables.order`). A row without a run's name is a run
        of its own.

    Attributes:
      said: what was guessed and converted to read the file.

    Raises:
      InputError: there is no such column, or the file has too many rows to be runs.
    """

    def __init__(self, kind: str, path: str, run_column: str | None) -> None:
        from analysis.tables.files.reading import WILD
        from analysis.tables.order import group_rows
        from analysis.tables.runs import find_run_column
        from analysis.tables.sources import open_source

        if not Path(path).is_file() and not any(sign in path for sign in WILD):
            raise InputError(f"{kind} {path!r} does not exist; give a file")
        self._table = open_source(path)
        self.said = list(self._table.provenance.said)
        if run_column is None and (run_column := find_run_column(self._table)) is not None:
            self.said.append(
                f"rows are of the histories of runs that the column {run_column!r} names; --run-column says another, "
                "and --run-column '' that each row is a run"
            )
        self._run_column = run_column = run_column or None
        if run_column is not None and run_column not in self._table.columns:
            known = [str(name) for name in self._table.columns]
            raise InputError(f"--run-column {run_column!r}: the file has no such column; {suggest(run_column, known)}")
        self._groups = None if run_column is None else group_rows(self._table, run_column)[0]
        count = len(self._table) if self._groups is None else len(self._groups)
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
        if self._run_column is None or self._groups is None:
            rows = self._table.to_dict("records")
            return [
                Listed(f"row-{i + 1:05d}", fingerprint_text(repr(encode(row))), payload=row)
                for i, row in enumerate(rows)
            ]
        from analysis.tables.order import RowOrder

        order = RowOrder(self._table, (self._run_column,))
        listed, taken = [], set[str]()
        for group in self._groups:
            found = order.sort(group)
            rows, notices = self._table.iloc[found.rows], list(found.doubts)
            if found.superseded:
                notices.append(f"{found.superseded} rows are superseded by a restart and left out")
            value = rows[self._run_column].iloc[0]
            name = _name(value)
            if not name:
                name = f"row-{group[0] + 1:05d}"
                notices.append(f"has no name in column {self._run_column!r}; the row is a run of its own")
            while name in taken:
                name += "-again"
            taken.add(name)
            version = fingerprint_text("\n".join([rows.to_csv(index=False), *notices]))
            listed.append(Listed(name, version, payload=(rows, tuple(notices))))
        return listed

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and, where rows are of histories, its history."""
        if self._run_column is None:
            return make_run(listed.id, listed.version, None, summary=_present(listed.payload)), None
        rows: pd.DataFrame = listed.payload[0]
        constant = [str(name) for name in self._table.columns if str(name) in self._constant()]
        history = build_history(map(_present, rows.drop(columns=constant).to_dict("records")))
        config = _present(rows.iloc[0][constant].to_dict())
        return make_run(listed.id, listed.version, None, config=config, notices=listed.payload[1]), history

    def _constant(self) -> set[str]:
        """Returns the columns that never change within a run."""
        if not hasattr(self, "_constants"):
            runs = np.empty(len(self._table), dtype=np.int64)
            for i, group in enumerate(self._groups or []):
                runs[group] = i
            counts = self._table.astype(str).groupby(runs).nunique().max()
            self._constants = {str(name) for name, count in counts.items() if count <= 1} | {str(self._run_column)}
        return self._constants


def _name(value: Any) -> str:
    """Returns a run's name as text; empty where there is none."""
    from analysis.tables.files.values import is_nothing
    from analysis.tables.runs import spell_name

    return "" if is_nothing(value) else spell_name(value).strip()


def _present(row: Any) -> dict[str, Any]:
    """Returns a row's values without those that the file leaves empty."""
    from analysis.tables.files.values import is_nothing

    return {str(name): value for name, value in row.items() if not is_nothing(value)}
