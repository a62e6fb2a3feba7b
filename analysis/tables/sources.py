"""Where tables come from: stores, imported runs, files, and what other libraries hold in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.tables.files.content import SUFFIXES, check_address, first_line, refuse_kind
from analysis.tables.files.json_files import flatten
from analysis.tables.files.names import read_names
from analysis.tables.files.parquet import flatten_structs
from analysis.tables.files.reading import WILD, is_file_name, read_files
from analysis.tables.provenance import Provenance, Table, attach, note, provenance_of, say
from analysis.tables.states import translate_states
from scaling.store.arrays import is_mixed, to_values
from scaling.store.columns import IMPORTED

if TYPE_CHECKING:
    import pyarrow as pa
    from etils import epath

# What tells a folder of imported runs, and the table that was made of them; see docs/import.md.
IMPORT = ("import.json", "table.parquet")
KINDS = "a path, several paths of files, a DataFrame of pandas or polars, an Arrow table, or runs of wandb.Api().runs()"


def open_source(source: Any, *, all_fields: bool = False, name: str | None = None, sheet: str | None = None) -> Table:
    """Returns the table of a source as it stands; `read_table` says what a source may be.

    Args:
      source: See `read_table`.
      all_fields: As in `read_table`.
      name: As in `read_table`.
      sheet: As in `read_table`.

    Raises:
      AnalysisError: there is no such source, it cannot be read, or an argument is not for its kind.
    """
    if isinstance(source, str | PurePath) or hasattr(source, "__fspath__"):
        source = [str(source)]
    if _is_list_of_paths(source):
        paths = [str(path) for path in source]
        if len(paths) > 1 or is_file_name(paths[0]) or any(sign in paths[0] for sign in WILD):
            return _open_files(paths, name, sheet)
        source, table = paths[0], _open_folder(paths[0], all_fields)
    else:
        table = _convert(source)
    if sheet is not None:
        shown = source if isinstance(source, str) else type(source).__name__
        raise AnalysisError(f"sheet={sheet!r} is of files, and {shown!r} is none; leave it out")
    if name is None:
        return table
    frame, said = read_names(table, name, (), ())
    return say(attach(frame, table.provenance), *said)


def _is_list_of_paths(source: Any) -> bool:
    is_list = isinstance(source, list | tuple) and len(source) > 0
    return is_list and all(isinstance(path, str) or hasattr(path, "__fspath__") for path in source)


def _open_files(paths: Sequence[str], name: str | None, sheet: str | None) -> Table:
    for path in paths:
        if not (is_file_name(path) or any(sign in path for sign in WILD)):
            raise AnalysisError(
                f"source={path!r}: several sources must be files ({', '.join(SUFFIXES)}); read stores and imports one "
                "at a time"
            )
    read = read_files(paths, sheet=sheet, name=name)
    return say(read.frame, *read.said)


def _open_folder(source: str, all_fields: bool) -> Table:
    from etils import epath

    check_address(source)
    path = epath.Path(source)
    if "://" not in source and not path.is_dir():
        raise refuse_kind(source, exists=path.exists())
    from scaling.store.store import Store

    Store(source)  # which says in one line why it cannot be reached
    if (path / IMPORT[0]).exists():
        return _open_import(path)
    return Table(_to_frame(Store.open(source).columns(all_fields=all_fields)))


def _to_frame(columns: dict[str, pa.ChunkedArray]) -> pd.DataFrame:
    """Returns a store's columns as pandas would have them from its rows, and gives them up."""
    frame = {}
    for name in list(columns):
        column = columns.pop(name)
        frame[name] = pd.Series(to_values(column)) if is_mixed(column) else column.to_pandas()
    return pd.DataFrame(frame)


def _open_import(path: epath.Path) -> Table:
    """Returns the table that `scaling import` made of other people's runs, with the conventions that it was made by."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / IMPORT[1]
    if not file.exists():
        raise AnalysisError(
            f"source={str(path)!r} holds imported runs and no mapping yet; run scaling import again with --column"
        )
    try:
        found = pq.read_table(io.BytesIO(file.read_bytes()))
        table: pd.DataFrame = found.to_pandas()
        known = json.loads((found.schema.metadata or {}).get(IMPORTED, b"{}"))
    except (ValueError, OSError, pa.ArrowException) as error:
        raise AnalysisError(
            f"{file} cannot be read ({first_line(error)}); run scaling import again with --no-fetch"
        ) from None
    table.attrs = {}
    return attach(table, Provenance(conventions=known))


# --- in memory ------------------------------------------------------------------------------------------------------


def _convert(source: Any) -> Table:
    """Returns what another library holds, or rows as mappings, as a table."""
    if isinstance(source, pd.DataFrame):
        return _tidy(source)
    if hasattr(source, "collect") and not hasattr(source, "__arrow_c_stream__"):
        source = source.collect()  # a polars LazyFrame
    if hasattr(source, "__arrow_c_stream__"):
        return _tidy(_read_arrow(source))
    if isinstance(source, Sequence) or hasattr(source, "__iter__"):
        rows = list(source)
        if rows and all(map(_is_run, rows)):
            return _read_runs(rows)
        if rows and all(isinstance(row, Mapping) for row in rows):
            return _tidy(pd.DataFrame([dict(flatten(row)) for row in rows]))
        if not rows and _is_of_wandb(source):
            raise AnalysisError("source: the runs of wandb are none; check the project's name and the filters")
    raise AnalysisError(f"source={type(source).__name__} is no table; give {KINDS}")


def _tidy(frame: pd.DataFrame) -> Table:
    """Returns a DataFrame whose columns are its own: names as text, a named index beside them, categories as values."""
    known = provenance_of(frame)
    said = []
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    if isinstance(frame.columns, pd.MultiIndex):
        names = [" ".join(str(part) for part in name if str(part)) for name in frame.columns]
        said.append(f"names of several levels are joined: {names[0]!r}")
        frame = frame.set_axis(names, axis="columns")
    elif not all(isinstance(name, str) for name in frame.columns):
        frame = frame.set_axis(list(map(str, frame.columns)), axis="columns")
    if not frame.columns.is_unique:
        again = frame.columns[frame.columns.duplicated()][0]
        raise AnalysisError(f"source: the table has two columns {again!r}; rename or drop one")
    plain = {
        name: frame[name].astype(frame[name].cat.categories.dtype)
        for name in frame.columns
        if isinstance(frame[name].dtype, pd.CategoricalDtype)
    }
    return say(attach(frame.assign(**plain) if plain else frame, known), *said)


def _read_arrow(source: Any) -> pd.DataFrame:
    import pyarrow as pa

    table = flatten_structs(pa.table(source))
    frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    return frame


def _is_of_wandb(source: Any) -> bool:
    return type(source).__module__.partition(".")[0] == "wandb"


def _is_run(value: Any) -> bool:
    """Returns whether a value is a run of W&B's public API, which is not imported for the question."""
    return all(hasattr(value, name) for name in ("id", "name", "state", "config", "summary"))


def _read_runs(runs: Sequence[Any]) -> Table:
    """Returns a row for each run: `run.…`, `config.…` and `summary.…`, and its `status` in our words."""
    rows = [dict(_read_run(run)) for run in runs]
    table = note(pd.DataFrame(rows), "runs", f"{len(rows)} of wandb.Api().runs(): configuration and final values")
    status, sentence = translate_states(table["run.state"])
    return say(table.assign(status=status), sentence)


def _read_run(run: Any) -> Iterator[tuple[str, Any]]:
    for name in ("id", "name", "state", "group", "job_type", "created_at"):
        if (value := getattr(run, name, None)) not in (None, ""):
            yield f"run.{name}", value
    final = getattr(run, "summary_metrics", None) or dict(run.summary)
    for section, values in (("config", dict(run.config)), ("summary", dict(final))):
        for name, value in flatten({name: value for name, value in values.items() if not name.startswith("_wandb")}):
            yield f"{section}.{name}", value
